/// Why a configuration cannot be used. A secret's value is in none of them.
public enum ConfigurationError: Error, Sendable, Hashable, CustomStringConvertible {
    case unreadable(path: String, reason: String)
    case syntax(path: String, line: Int, reason: String)
    /// `source` is `PATH:LINE`, `--set` or `file:PATH`.
    case badValue(source: String, key: String, value: String, allowed: String)
    case badOverride(text: String)
    case unknownOption(key: String, nearest: String?)
    /// A secret on a command line is readable by every process of the machine.
    case secretOverride(key: String)
    /// Group or others can read a file that holds secrets.
    case exposedSecrets(path: String, keys: [String])

    public var description: String {
        switch self {
        case .unreadable(let path, let reason): "\(path): cannot be read: \(reason)"
        case .syntax(let path, let line, let reason): "\(path):\(line): \(reason)"
        case .badValue(let source, let key, let value, let allowed):
            "\(source): \(key) = \"\(value)\" is not allowed; allowed is \(allowed)"
        case .badOverride(let text): "--set \(text): must have the form section.option=value"
        case .unknownOption(let key, let nearest):
            "there is no option \(key)" + (nearest.map { "; the nearest is \($0)" } ?? "")
        case .secretOverride(let key):
            "--set \(key): a secret on the command line is seen by everybody; write \(key) = file:PATH into the file"
        case .exposedSecrets(let path, let keys):
            "\(path): holds secrets (\(keys.joined(separator: ", "))) and is readable by others than its owner; "
                + "chmod 600 \(path)"
        }
    }
}
