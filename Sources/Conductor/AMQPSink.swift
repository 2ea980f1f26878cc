internal import AMQP
internal import Configuration
internal import Database
internal import HTTP
internal import Model
internal import RPC
internal import Synchronization
internal import Telemetry

#if AMQP
    /// A broker of AMQP 0-9-1: each notification goes to a topic exchange under `TOPIC.info` or `TOPIC.error`, in the
    /// envelope that OpenStack's consumers read, and counts as told when the broker says that it has it.
    final class AMQPSink: NotificationSink {
        private let settings: AMQPSettings
        private let threads = BlockingExecutor(name: "notification-amqp", threads: 1)
        private let connection = Mutex<AMQPConnection?>(nil)

        let name: String

        init(_ settings: AMQPSettings) {
            self.settings = settings
            let place = "\(settings.address.host):\(settings.address.port)/\(settings.address.space)"
            name = "amqp:\(place)/\(settings.exchange)/\(settings.topic)"
        }

        func deliver(_ notifications: [WaitingNotification]) async throws -> Int {
            let messages = try notifications.map { try (key: key(of: $0), body: Self.envelope($0)) }
            return try await threads.run { () throws(Failure) in
                try self.connection.withLock { (kept) throws(Failure) -> Int in
                    // A connection on which something went wrong is not used again.
                    let connection = if let kept { kept } else { try self.open() }
                    kept = nil
                    let before = connection.confirmed
                    do throws(Failure) {
                        for message in messages {
                            try connection.publish(message.body, exchange: self.settings.exchange, key: message.key)
                        }
                        try connection.confirm()
                    } catch {
                        // What the broker has taken it must not be sent again and again because of what it has not.
                        let taken = Int(connection.confirmed - before)
                        guard taken > 0 else { throw error }
                        return taken
                    }
                    kept = connection
                    return messages.count
                }
            }
        }

        private func open() throws(Failure) -> AMQPConnection {
            let made = try AMQPConnection(
                settings.address, password: settings.password, authority: settings.authority)
            for level in ["info", "error"] {
                try made.declare(
                    exchange: settings.exchange, queue: "\(settings.topic).\(level)", isDurable: settings.isDurable)
            }
            return made
        }

        private func key(of notification: WaitingNotification) throws -> String {
            let priority = try JSON(parsing: Array(notification.body.utf8))["priority"]?.text
            return "\(settings.topic).\(priority == "ERROR" ? "error" : "info")"
        }

        private static func envelope(_ notification: WaitingNotification) -> [UInt8] {
            JSON.object(["oslo.version": "2.0", "oslo.message": .string(notification.body)]).serialized()
        }
    }
#endif

/// Whom the AMQP sink tells.
struct AMQPSettings: Sendable, Hashable {
    var address: AMQPAddress
    var password: String
    /// A file of certificates; `nil` for the system's.
    var authority: String?
    var exchange: String
    var topic: String
    var isDurable: Bool

    /// `nil` where no broker is named. Throws `.invalidParameters` for a password file that cannot be read, `.forbidden` for
    /// a broker to which the password would go in plaintext.
    init?(_ configuration: Configuration) throws(Failure) {
        guard let address = AMQPAddress(configuration[NotificationOptions.amqpURL]) else { return nil }
        self.address = address
        guard address.isSecure || ListenAddress.isLoopback(address.host) || configuration[RPCOptions.allowPlaintext]
        else {
            throw Failure(
                .forbidden,
                "[notifications] amqp_url: \(address.host) is beyond this machine and not TLS: no password is sent there in "
                    + "plaintext; use amqps://, or set [apus] allow_plaintext")
        }
        let path = configuration[NotificationOptions.amqpPasswordFile]
        password =
            path.isEmpty
            ? "guest" : String(decoding: try secretBytes(path, option: "amqp_password_file"), as: UTF8.self)
        let file = configuration[NotificationOptions.amqpCAFile]
        authority = file.isEmpty ? nil : file
        exchange = configuration[NotificationOptions.amqpExchange]
        topic = configuration[NotificationOptions.amqpTopic]
        isDurable = configuration[NotificationOptions.amqpDurable]
    }
}
