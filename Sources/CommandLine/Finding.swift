internal import Model

/// One line of `apus doctor`.
struct Finding: Sendable, Hashable {
    enum Level: String, Sendable, Hashable, Comparable {
        case ok, warning, problem

        private var rank: Int {
            switch self {
            case .ok: 0
            case .warning: 1
            case .problem: 2
            }
        }

        static func < (left: Level, right: Level) -> Bool { left.rank < right.rank }
    }

    /// What was looked at: "libvirt", "kvm", "clock" …
    var check: String
    var level: Level
    /// What was seen.
    var text: String
    /// What to do about it; `nil` when all is well.
    var advice: String?

    static func ok(_ check: String, _ text: String) -> Finding { Finding(check: check, level: .ok, text: text) }

    static func warning(_ check: String, _ text: String, _ advice: String) -> Finding {
        Finding(check: check, level: .warning, text: text, advice: advice)
    }

    static func problem(_ check: String, _ text: String, _ advice: String) -> Finding {
        Finding(check: check, level: .problem, text: text, advice: advice)
    }

    /// `problem  qemu-img     not found: apt-get install qemu-utils`
    func line(width: Int) -> String {
        "\(padded(level.rawValue, to: 7))  \(padded(check, to: width))  \(text)\(advice.map { ": \($0)" } ?? "")"
    }

    var json: JSON {
        [
            "check": .string(check), "level": .string(level.rawValue), "text": .string(text),
            "advice": advice.map { .string($0) } ?? .null,
        ]
    }
}
