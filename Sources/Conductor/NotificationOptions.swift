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

    public static let all: [AnyOption] = [file.erased, webhook.erased, secretFile.erased]
}
