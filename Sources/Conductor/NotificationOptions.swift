internal import AMQP
public import Configuration

/// Whom the cloud tells what happens. Off unless a sink is named.
public enum NotificationOptions {
    public static let file = Option<String>(
        "notifications", "file", default: "",
        help: "Append each notification to this file as a line of JSON. Empty: not.",
        check: { $0.isEmpty || $0.hasPrefix("/") ? nil : "an absolute path, or nothing" })
    public static let webhook = Option<String>(
        "notifications", "webhook_url", default: "",
        help: "POST each notification to this URL, again and again until it is taken (2xx). Empty: not.",
        check: { $0.isEmpty || $0.hasPrefix("https://") || $0.hasPrefix("http://") ? nil : "a URL, or nothing" })
    public static let secretFile = Option<String>(
        "notifications", "webhook_secret_file", default: "",
        help: "File with the secret that signs each POST: X-Apus-Signature is sha256=HMAC-SHA256 of the body, in hex.",
        check: { $0.isEmpty || $0.hasPrefix("/") ? nil : "an absolute path, or nothing" })

    public static let amqpURL = Option<String>(
        "notifications", "amqp_url", default: "",
        help:
            "Send each notification to this broker, amqp://USER@HOST:PORT/VHOST or amqps://…, which must confirm it. Empty: not.",
        check: {
            $0.isEmpty || AMQPAddress($0) != nil ? nil : "amqp://USER@HOST:PORT/VHOST without a password, or nothing"
        })
    public static let amqpPasswordFile = Option<String>(
        "notifications", "amqp_password_file", default: "",
        help: "File with the broker user's password; \"guest\" without one.",
        check: { $0.isEmpty || $0.hasPrefix("/") ? nil : "an absolute path, or nothing" })
    public static let amqpCAFile = Option<String>(
        "notifications", "amqp_ca_file", default: "",
        help: "Certificates by which a broker with TLS is known. Empty: the system's.",
        check: { $0.isEmpty || $0.hasPrefix("/") ? nil : "an absolute path, or nothing" })
    public static let amqpExchange = Option<String>(
        "notifications", "amqp_exchange", default: "nova", help: "The topic exchange; made where it is not there.",
        check: { (1...127).contains($0.utf8.count) ? nil : "1 to 127 bytes" })
    public static let amqpTopic = Option<String>(
        "notifications", "amqp_topic", default: "versioned_notifications",
        help: "The start of the routing keys and queues, which end with .info or .error.",
        check: { (1...100).contains($0.utf8.count) ? nil : "1 to 100 bytes" })
    public static let amqpDurable = Option<Bool>(
        "notifications", "amqp_durable", default: true,
        help: "Whether exchange and queues outlive the broker; as whoever reads them declares them.")

    public static let all: [AnyOption] = [
        file.erased, webhook.erased, secretFile.erased, amqpURL.erased, amqpPasswordFile.erased, amqpCAFile.erased,
        amqpExchange.erased, amqpTopic.erased, amqpDurable.erased,
    ]
}
