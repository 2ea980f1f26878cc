#if AMQP
    internal import CRabbitMQ
    internal import Glibc
    public import Model

    /// A connection to a broker of AMQP 0-9-1 that confirms each message it has taken. Used by one thread at a time; calls
    /// block, each for 10 s at most, or twice that when the broker says nothing at the end of that time.
    public final class AMQPConnection {
        private static let timeoutSeconds: Int32 = 10

        private let state: amqp_connection_state_t
        private let address: String
        /// How many messages were sent: the broker counts from 1 as well.
        private var sent: UInt64 = 0
        /// How many of them, from the first on, the broker has taken for certain.
        public private(set) var confirmed: UInt64 = 0
        private var early: Set<UInt64> = []

        /// Connects. Throws `.unreachable`, retriable; the message has no password.
        public init(_ address: AMQPAddress, password: String, authority: String?) throws(Failure) {
            self.address = "\(address.host):\(address.port)"
            var text = [CChar](repeating: 0, count: 512)
            let size = text.count
            let opened = apus_amqp_open(
                address.host, Int32(address.port), address.isSecure ? authority ?? Self.systemAuthorities : nil,
                address.user, password, address.space, Self.timeoutSeconds, &text, size)
            guard let opened else {
                throw Failure(.unreachable, "broker \(self.address): \(Self.said(text))", isRetriable: true)
            }
            state = opened
        }

        deinit { amqp_destroy_connection(state) }

        private static let systemAuthorities = "/etc/ssl/certs/ca-certificates.crt"

        private static func said(_ text: [CChar]) -> String {
            String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }

        /// Makes a topic exchange, and a queue that has what is sent to it under the queue's name. Throws `.unreachable`,
        /// also when either is there in another form.
        public func declare(exchange: String, queue: String, isDurable: Bool) throws(Failure) {
            try call { text, size in
                apus_amqp_declare(state, exchange, queue, isDurable ? 1 : 0, text, size)
            }
        }

        /// Sends one message, without waiting for the broker's word on it.
        public func publish(_ body: [UInt8], exchange: String, key: String) throws(Failure) {
            try call { text, size in
                body.withUnsafeBytes { apus_amqp_publish(state, exchange, key, $0.baseAddress, $0.count, text, size) }
            }
            sent += 1
        }

        /// Waits until the broker has taken everything that was sent. Throws `.unreachable` when it refuses a message or
        /// says nothing in time: what of it was taken is not known then.
        public func confirm() throws(Failure) {
            let start = ContinuousClock.now
            while confirmed < sent {
                guard ContinuousClock.now - start < .seconds(Int(Self.timeoutSeconds)) else {
                    throw Failure(.unreachable, "broker \(address) is too slow", isRetriable: true)
                }
                var (tag, multiple): (UInt64, Int32) = (0, 0)
                var text = [CChar](repeating: 0, count: 512)
                let size = text.count
                switch apus_amqp_confirmation(state, Self.timeoutSeconds, &tag, &multiple, &text, size) {
                case 1: note(tag, isMultiple: multiple != 0)
                case 0: throw Failure(.unreachable, "broker \(address) refuses a message", isRetriable: true)
                default: throw Failure(.unreachable, "broker \(address): \(Self.said(text))", isRetriable: true)
                }
            }
        }

        private func note(_ tag: UInt64, isMultiple: Bool) {
            if isMultiple {
                confirmed = max(confirmed, tag)
                early = early.filter { $0 > confirmed }
            } else {
                early.insert(tag)
            }
            while early.remove(confirmed + 1) != nil { confirmed += 1 }
        }

        private func call(_ body: (UnsafeMutablePointer<CChar>?, Int) -> Int32) throws(Failure) {
            var text = [CChar](repeating: 0, count: 512)
            let code = text.withUnsafeMutableBufferPointer { body($0.baseAddress, $0.count) }
            guard code == 0 else {
                throw Failure(.unreachable, "broker \(address): \(Self.said(text))", isRetriable: true)
            }
        }
    }
#endif
