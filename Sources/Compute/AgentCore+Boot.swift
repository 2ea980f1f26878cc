internal import Configuration
internal import Glibc
internal import Model
internal import SQL
internal import SQLite
internal import Telemetry

extension AgentCore {
    /// Whether something may be started that was evacuated since: operations that were broken off, and guests after a boot
    /// of the host.
    func isAboutToStartGuests() async throws -> Bool {
        let (open, last) = try await journal.database.read { connection in
            (try connection.openOperations(), try connection.setting("boot_id"))
        }
        guard open.isEmpty else { return true }
        return configuration[ComputeOptions.resumeGuestsOnHostBoot] && last != nil && last != Self.bootID()
    }

    /// Starts the guests again that ran when the host went down, if the configuration says so. Before anybody compares
    /// guests with their records: to the comparison they are guests that have stopped.
    func resumeAfterBoot() async throws {
        guard let boot = Self.bootID() else { return }
        let last = try await journal.database.read { try $0.setting("boot_id") }
        guard last != boot else { return }
        if let last, configuration[ComputeOptions.resumeGuestsOnHostBoot] {
            let log = Logger("agent")
            log.notice("the host has booted since the agent last ran", ["boot": boot, "last": last])
            for guest in try await journal.guests() where guest.vmState == .active {
                do {
                    let seen = try await driver.observe(guest.id)
                    guard let seen, seen.isOurs, [.shutdown, .crashed].contains(seen.powerState) else { continue }
                    try await dispatcher.start(guest)
                } catch {
                    log.error(
                        "a guest cannot be started after the host's boot",
                        ["instance": guest.id, "error": LoggedError(error)])
                }
            }
        }
        try await journal.database.write { try $0.setSetting("boot_id", boot) }
    }

    /// The kernel's name of this run of the host; `nil` where there is none.
    private static func bootID() -> String? {
        guard let file = fopen("/proc/sys/kernel/random/boot_id", "r") else { return nil }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = fread(&bytes, 1, bytes.count, file)
        let text = String(decoding: bytes.prefix(count), as: UTF8.self).filter { $0.isHexDigit || $0 == "-" }
        return text.isEmpty ? nil : text
    }
}
