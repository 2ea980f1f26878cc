import Database
import Foundation
import Model
import Tasks

#if PostgreSQL
    import PostgreSQLServer
#endif

/// A folder of its own for one test, removed with it.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "apus-database-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { path + "/" + name }
}

func at(_ second: Int64) -> Timestamp { Timestamp(seconds: second) }

/// What the stores keep their promises on.
enum Engine: Sendable, CaseIterable {
    case sqlite
    #if PostgreSQL
        case postgresql
    #endif
}

func makeDatabase(_ engine: Engine = .sqlite) async throws -> ControlDatabase {
    switch engine {
    case .sqlite: return try await ControlDatabase.open(path: nil, now: { at(0) })
    #if PostgreSQL
        case .postgresql:
            let url = try await PostgreSQLServer.shared().makeDatabase()
            return try await ControlDatabase.open(.server(url: url, connections: 3), now: { at(0) })
    #endif
    }
}

let smallFlavor = Flavor(id: FlavorID("2"), name: "m1.small", vcpus: 1, memoryMiB: 2_048, rootGiB: 20)

/// An instance with every optional member set.
func fullInstance(_ id: String = "i", project: String = "p", at second: Int64 = 1) -> Instance {
    var instance = Instance(
        id: InstanceID(id), projectID: ProjectID(project), userID: UserID("u"), name: "name \"\(id)\" ü",
        hostname: "name", flavor: smallFlavor, imageID: ImageID("image"), keyName: "key", publicKey: "ssh-rsa A",
        metadata: ["a": "1", "": ""], tags: ["x", "y"], userData: "IyE=", isConfigDriveRequested: true,
        availabilityZone: "nova", networks: .none, schedulerHints: ["group": ["g", "h"]], reservationID: "r-\(id)",
        launchIndex: 3, createdAt: at(second))
    instance.vmState = .active
    instance.taskState = nil
    instance.powerState = .running
    instance.fence = Fence(generation: 7, epoch: 2)
    instance.host = HostName("a")
    instance.interfaces = [
        NetworkInterface(network: "default", macAddress: "52:54:00:00:00:01", ipv4Address: "192.168.1.2")
    ]
    instance.fault = InstanceFault(message: "no", details: "more", createdAt: at(2))
    (instance.accessIPv4, instance.accessIPv6, instance.description) = ("1.2.3.4", "::1", "text")
    (instance.progress, instance.launchedAt, instance.terminatedAt) = (100, at(3), at(4))
    return instance
}

func plainInstance(_ id: String, project: String = "p", at second: Int64 = 1) -> Instance {
    Instance(
        id: InstanceID(id), projectID: ProjectID(project), userID: UserID("u"), name: id, hostname: id,
        flavor: smallFlavor, imageID: ImageID("image"), reservationID: "r-\(id)", createdAt: at(second))
}

func makeAction(_ instance: String, request: String = "req-1", at second: Int64 = 1) -> InstanceAction {
    InstanceAction(
        instance: InstanceID(instance), requestID: RequestID(request), kind: .create, userID: UserID("u"),
        projectID: ProjectID("p"), startedAt: at(second))
}

func makeTask(_ id: String, instance: String) -> TaskRow {
    TaskRow(
        id: TaskID(id), kind: "build", instance: InstanceID(instance), requestID: RequestID("req-1"), state: [],
        generation: 1, createdAt: at(1))
}

func makeReport(
    _ host: String, uuid: String? = nil, sequence: Int64 = 1, measuredAt second: Int64 = 1, usedMiB: Int = 512
) -> HostReport {
    HostReport(
        host: HostName(host), uuid: uuid ?? "uuid-\(host)", hypervisorHostname: "\(host).example",
        hypervisorType: "QEMU", hypervisorVersion: 7_002_000, hostAddress: "10.0.0.1",
        total: Resources(vcpus: 8, memoryMiB: 16_384, diskGiB: 100), reserved: .zero,
        used: Resources(vcpus: 1, memoryMiB: usedMiB, diskGiB: 1), ratios: AllocationRatios(),
        diskAvailableLeastGiB: nil, runningInstances: 1, workload: 0, cpuModel: nil, cpuVendor: nil,
        architecture: "x86_64", cpuTopology: CPUTopology(), cpuFeatures: ["vmx"], uptimeSeconds: 5,
        sequence: sequence, measuredAt: at(second))
}
