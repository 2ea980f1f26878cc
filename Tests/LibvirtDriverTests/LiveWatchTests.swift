import Configuration
import Model
import Testing

@testable import LibvirtDriver

@Suite("How long a guest may stand still at the end of its live migration")
struct LiveWatchTests {
    private func settings(_ values: [String: String] = [:]) throws -> LiveWatch.Settings {
        LiveWatch.Settings(try Sample.configuration(try TemporaryFolder(), values))
    }

    @Test(
        "It begins with a little, and has all of it after the last step",
        arguments: [
            (0, 1, 50), (74, 1, 50), (75, 1, 95), (149, 1, 95), (150, 1, 140), (674, 1, 410), (675, 1, 455),
            (749, 1, 455), (750, 1, 500), (7_500, 1, 500), (86_400 * 30, 1, 500),
            // A larger guest gets as many steps, only later.
            (149, 2, 50), (150, 2, 95), (1_499, 2, 455), (1_500, 2, 500), (75 * 64 - 1, 64, 50), (75 * 64, 64, 95),
        ])
    func steps(seconds: Int, gibibytes: Int, milliseconds: Int) throws {
        let settings = try settings()
        #expect(settings.downtime(after: .seconds(seconds), gibibytes: gibibytes) == .milliseconds(milliseconds))
    }

    @Test("Every step gives more, and nothing gives more than the limit", arguments: [3, 7, 10, 1_000])
    func rising(steps: Int) throws {
        let settings = try settings([
            "libvirt.live_migration_downtime": "1000", "libvirt.live_migration_downtime_steps": "\(steps)",
            "libvirt.live_migration_downtime_delay": "3s",
        ])
        let given = (0...steps + 5).map { settings.downtime(after: .seconds(3 * 4 * $0), gibibytes: 4) }
        #expect(given.first.map { $0 > .zero && $0 <= .milliseconds(1_000) / steps } == true)
        #expect(zip(given, given.dropFirst()).prefix(steps).allSatisfy { $0 < $1 })
        #expect(given.dropFirst(steps).allSatisfy { $0 == .milliseconds(1_000) })
    }

    @Test("Without a limit in the configuration a migration takes as long as it takes")
    func timeout() throws {
        let usual = try settings()
        #expect(usual.timeout == .seconds(800) && usual.action == .abort && !usual.permitsPostCopy)
        let other = try settings([
            "libvirt.live_migration_completion_timeout": "0", "libvirt.live_migration_timeout_action": "force_complete",
            "libvirt.live_migration_permit_post_copy": "true",
        ])
        #expect(other.timeout == nil && other.action == .forceComplete && other.permitsPostCopy)
    }
}
