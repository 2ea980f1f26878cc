internal import Configuration
internal import Model
internal import SQL
internal import SQLite

extension AllocationRatios {
    /// The configured ratios. One that is not configured stays what it was at the host's first start, whatever the
    /// initial ratios say later: a change of defaults must not move what hosts have promised (Nova's rule).
    static func chosen(_ configuration: Configuration, _ journal: Journal) async throws -> AllocationRatios {
        func kept(
            _ name: String, _ configured: Option<Double?>, _ initial: Option<Double>
        ) async throws -> Double {
            if let ratio = configuration[configured] { return ratio }
            let first = configuration[initial]
            return try await journal.database.write { connection in
                if let known = try connection.setting(name).flatMap({ Double($0) }), known > 0 { return known }
                try connection.setSetting(name, "\(first)")
                return first
            }
        }
        return AllocationRatios(
            cpu: try await kept(
                "cpu_allocation_ratio", ComputeOptions.cpuAllocationRatio, ComputeOptions.initialCPUAllocationRatio),
            memory: try await kept(
                "ram_allocation_ratio", ComputeOptions.ramAllocationRatio, ComputeOptions.initialRAMAllocationRatio),
            disk: try await kept(
                "disk_allocation_ratio", ComputeOptions.diskAllocationRatio,
                ComputeOptions.initialDiskAllocationRatio))
    }
}
