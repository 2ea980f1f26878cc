import Foundation
import Model
import RPC
import Testing

/// What conductors and agents of a release said to each other, as `Tests/chaos/record-release` wrote it down.
private struct Exchange: Sendable, CustomTestStringConvertible {
    var release: Int
    var method: String
    var version: RPCVersion
    var params: JSON
    var result: JSON

    var testDescription: String { "release \(release): \(method)" }

    /// Empty where `read` fails, which a test of its own shows.
    static let all = (try? read()) ?? []

    static func read() throws -> [Exchange] {
        try [1].flatMap { release in
            let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            let text = try String(
                contentsOf: folder.appendingPathComponent("Fixtures/release-\(release).jsonl"), encoding: .utf8)
            return try text.split(separator: "\n").map { line in
                let json = try JSON(parsing: Array(line.utf8))
                guard let method = json["method"]?.text, let params = json["params"], let result = json["result"],
                    let version = json["version"]?.text.flatMap({ RPCVersion($0) })
                else { throw CocoaError(.fileReadCorruptFile) }
                return Exchange(release: release, method: method, version: version, params: params, result: result)
            }
        }
    }
}

/// One method: what this release makes of an exchange in another's form.
private struct Reading: Sendable {
    /// The parameters, read and written again in the form of that version; then the result.
    let repeated: @Sendable (Exchange) throws -> (params: JSON, result: JSON)
    let version: RPCVersion

    init<M: RPCMethod>(_ method: M.Type) {
        version = M.version
        repeated = { exchange in
            let params = try JSONDecoder().decode(M.Params.self, from: Data(exchange.params.serialized()))
            let result = try JSONDecoder().decode(M.Result.self, from: Data(exchange.result.serialized()))
            return (
                try JSON(parsing: Array(JSONEncoder().encode(try M.backport(params, to: exchange.version)))),
                try JSON(parsing: Array(JSONEncoder().encode(try M.backport(result: result, to: exchange.version))))
            )
        }
    }

    static let all: [String: Reading] = [
        BuildInstance.name: Reading(BuildInstance.self), DeleteInstance.name: Reading(DeleteInstance.self),
        OperateGuest.name: Reading(OperateGuest.self), CancelOperation.name: Reading(CancelOperation.self),
        CacheImage.name: Reading(CacheImage.self), DescribeClaims.name: Reading(DescribeClaims.self),
        GetConsoleOutput.name: Reading(GetConsoleOutput.self), GetDiagnostics.name: Reading(GetDiagnostics.self),
        GetTopology.name: Reading(GetTopology.self), PingGuestAgent.name: Reading(PingGuestAgent.self),
        InjectNMI.name: Reading(InjectNMI.self),
        Heartbeat.name: Reading(Heartbeat.self), ReportHost.name: Reading(ReportHost.self),
        ReportHostChange.name: Reading(ReportHostChange.self), ReportInstance.name: Reading(ReportInstance.self),
        ReportOperation.name: Reading(ReportOperation.self), ListHostInstances.name: Reading(ListHostInstances.self),
        GetHostInstance.name: Reading(GetHostInstance.self), DescribeInstances.name: Reading(DescribeInstances.self),
        GetImageTicket.name: Reading(GetImageTicket.self), GetCacheTicket.name: Reading(GetCacheTicket.self),
        RegisterAgent.name: Reading(RegisterAgent.self),
        SelectDestinations.name: Reading(SelectDestinations.self), CheckRebuild.name: Reading(CheckRebuild.self),
        WakeConductor.name: Reading(WakeConductor.self), ForgetHost.name: Reading(ForgetHost.self),
        FetchConsoleOutput.name: Reading(FetchConsoleOutput.self), FetchClaims.name: Reading(FetchClaims.self),
        FetchDiagnostics.name: Reading(FetchDiagnostics.self), FetchTopology.name: Reading(FetchTopology.self),
        FetchGuestAgent.name: Reading(FetchGuestAgent.self), TriggerCrashDump.name: Reading(TriggerCrashDump.self),
    ]
}

@Suite("What earlier releases said")
struct RecordedTests {
    @Test("is understood, and answered in their own form", arguments: Exchange.all)
    fileprivate func exchange(_ exchange: Exchange) throws {
        let reading = try #require(Reading.all[exchange.method])
        #expect(reading.version.major == exchange.version.major && exchange.version <= reading.version)
        let (params, result) = try reading.repeated(exchange)
        // Whole: nothing of theirs is lost, and nothing is there that they do not know.
        #expect(params == exchange.params)
        #expect(result == exchange.result)
    }

    @Test("is there of every method between the control plane and its hosts")
    func complete() throws {
        let recorded = Set(try Exchange.read().filter { $0.release == 1 }.map(\.method))
        let since: Set = [RegisterAgent.name]
        let all = Reading.all.keys.filter { $0.hasPrefix("compute.") || $0.hasPrefix("conductor.") }
        let own: Set = [
            WakeConductor.name, ForgetHost.name, FetchConsoleOutput.name, FetchClaims.name, FetchDiagnostics.name,
            FetchTopology.name, FetchGuestAgent.name, TriggerCrashDump.name,
        ]
        // Asked for by guests, or only when something is stopped, deleted behind the agent's back, or not yet cached.
        let rare: Set = [
            CancelOperation.name, DescribeInstances.name, GetCacheTicket.name, GetHostInstance.name,
            PingGuestAgent.name,
        ]
        #expect(Set(all).subtracting(since).subtracting(own).subtracting(rare).subtracting(recorded) == [])
    }
}
