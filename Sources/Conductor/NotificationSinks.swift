internal import CSystem
internal import Configuration
internal import Crypto
internal import Database
internal import Glibc
internal import HTTP
internal import Model
internal import Telemetry

/// Somebody who is told what happens.
protocol NotificationSink: Sendable {
    /// Lasting: where the sink has come to is kept under it.
    var name: String { get }

    /// Delivers some, in order, and gives how many were taken: those have been told for good. Throws `Failure` when not
    /// even the first could be.
    func deliver(_ notifications: [WaitingNotification]) async throws -> Int
}

/// A file of JSON lines. A line is whole, or is not there: what a crash cut off is cut away before the next.
struct FileSink: NotificationSink {
    let path: String
    let files: BlockingExecutor
    var name: String { "file:\(path)" }

    func deliver(_ notifications: [WaitingNotification]) async throws -> Int {
        try await files.run { () throws(Failure) in
            let file = apus_open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
            guard file >= 0 else { throw failure("open") }
            defer { close(file) }
            try cutOff(file)
            var bytes: [UInt8] = []
            for notification in notifications {
                bytes += notification.body.utf8
                bytes.append(UInt8(ascii: "\n"))
            }
            var done = 0
            while done < bytes.count {
                let count = bytes.withUnsafeBytes { write(file, $0.baseAddress.map { $0 + done }, $0.count - done) }
                guard count >= 0 else {
                    if errno == EINTR { continue }
                    throw failure("write")
                }
                done += count
            }
            guard fsync(file) == 0 else { throw failure("fsync") }
        }
        return notifications.count
    }

    /// Cuts away a last line without its end.
    private func cutOff(_ file: Int32) throws(Failure) {
        var end = lseek(file, 0, SEEK_END)
        guard end > 0 else { return }
        let whole = end
        var byte: UInt8 = 0
        while end > 0 {
            guard pread(file, &byte, 1, end - 1) == 1 else { throw failure("read") }
            if byte == UInt8(ascii: "\n") { break }
            end -= 1
        }
        guard end == whole || ftruncate(file, end) == 0 else { throw failure("truncate") }
    }

    private func failure(_ call: String) -> Failure {
        Failure(.storage, "\(path): \(call): \(String(cString: strerror(errno)))", isRetriable: true)
    }
}

/// An address that each notification is posted to, one after the other.
struct WebhookSink: NotificationSink {
    let url: String
    let secret: [UInt8]?
    let http: HTTPClient
    /// Without what may be secret in the address.
    var name: String { "webhook:\(Hex.encode(Array(digest(.sha256, of: Array(url.utf8)).prefix(8))))" }

    /// How long one delivery may go on beginning to post, so that it ends within the lease.
    private static let longest = Duration.seconds(15)
    private static let timeout = Duration.seconds(10)

    func deliver(_ notifications: [WaitingNotification]) async throws -> Int {
        let start = ContinuousClock.now
        for (count, notification) in notifications.enumerated() {
            if count > 0, start.duration(to: .now) > Self.longest { return count }
            do {
                try await post(notification)
            } catch {
                if count > 0, !(error is CancellationError) { return count }
                throw error
            }
        }
        return notifications.count
    }

    private func post(_ notification: WaitingNotification) async throws {
        let body = Array(notification.body.utf8)
        var headers: HTTPFields = ["Content-Type": "application/json"]
        if let secret { headers["X-Apus-Signature"] = "sha256=" + Hex.encode(hmacSHA256(key: secret, body)) }
        let response: ClientResponse
        do {
            response = try await http.send(
                ClientRequest(
                    method: .post, url: url, headers: headers, body: .bytes(body), connectTimeout: .seconds(5),
                    timeout: Self.timeout, idleTimeout: Self.timeout))
        } catch {
            throw error.failure
        }
        guard (200..<300).contains(response.status) else {
            throw Failure(.unreachable, "the webhook answered \(response.status)", isRetriable: true)
        }
    }
}

/// The sinks that the configuration names.
struct NotificationSinks: Sendable {
    let all: [any NotificationSink]

    /// Throws `Failure(.invalidParameters)` when the secret cannot be read or is too short to be one.
    init(_ configuration: Configuration, _ http: HTTPClient) throws(Failure) {
        var sinks: [any NotificationSink] = []
        let path = configuration[NotificationOptions.file]
        if !path.isEmpty {
            sinks.append(FileSink(path: path, files: BlockingExecutor(name: "notification-file", threads: 1)))
        }
        let url = configuration[NotificationOptions.webhook]
        if !url.isEmpty {
            let secretPath = configuration[NotificationOptions.secretFile]
            sinks.append(
                WebhookSink(url: url, secret: secretPath.isEmpty ? nil : try Self.secret(secretPath), http: http))
        }
        #if AMQP
            if let settings = try AMQPSettings(configuration) { sinks.append(AMQPSink(settings)) }
        #else
            guard configuration[NotificationOptions.amqpURL].isEmpty else {
                throw Failure(
                    .invalidParameters,
                    "[notifications] amqp_url: this program was built without AMQP; build it with --traits AMQP")
            }
        #endif
        all = sinks
    }

    private static func secret(_ path: String) throws(Failure) -> [UInt8] {
        let secret = try secretBytes(path, option: "webhook_secret_file")
        guard secret.count >= 16 else {
            throw Failure(.invalidParameters, "[notifications] webhook_secret_file: \(path) has less than 16 bytes")
        }
        return secret
    }
}

/// A file with a secret, at most 4,096 bytes, without the ends of lines behind it. Throws `.invalidParameters` when it cannot
/// be read.
func secretBytes(_ path: String, option: String) throws(Failure) -> [UInt8] {
    let file = apus_open(path, O_RDONLY | O_CLOEXEC, 0)
    guard file >= 0 else {
        throw Failure(.invalidParameters, "[notifications] \(option): \(path) cannot be read")
    }
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: 4_096)
    let count = bytes.withUnsafeMutableBytes { read(file, $0.baseAddress, $0.count) }
    guard count >= 0 else { throw Failure(.invalidParameters, "[notifications] \(option): \(path) cannot be read") }
    var secret = Array(bytes.prefix(count))
    while let last = secret.last, last == 10 || last == 13 { secret.removeLast() }
    return secret
}
