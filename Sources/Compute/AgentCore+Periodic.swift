internal import Configuration
internal import Model
internal import Periodic

extension AgentCore {
    /// What the agent does again and again; each task with its option.
    func periodicRunner(isCompared: Bool) -> PeriodicRunner {
        guard configuration[CommonOptions.periodicEnable] else {
            return PeriodicRunner([], of: "agent", fuzz: .zero)
        }
        let leftovers = LeftoverRemoval(
            limit: configuration[ComputeOptions.maximumDeleteAttempts], journal: journal, dispatcher: dispatcher)
        let healing = NetworkHealing(
            journal: journal, host: identity.host, sequence: { sequence.next() }, wakeOutbox: { outbox.wake() })
        return PeriodicRunner(
            [
                PeriodicTask(
                    "update_available_resource", interval: configuration[ComputeOptions.updateResourcesInterval],
                    run: updateAvailableResource),
                PeriodicTask(
                    "sync_power_states", interval: configuration[ComputeOptions.syncPowerStateInterval],
                    run: {
                        if await watcher.isConnected { try await watcher.compareAll() }
                    }),
                PeriodicTask(
                    "compare_with_control_plane", interval: .seconds(isCompared ? 600 : 30), isImmediate: !isCompared,
                    run: { try await comparison.run(timeout: .seconds(20)) }),
                PeriodicTask(
                    "run_pending_deletes", interval: configuration[ComputeOptions.instanceDeleteInterval],
                    run: {
                        try await leftovers.run()
                        await removeDeadSnapshots()
                    }),
                PeriodicTask(
                    "cleanup_running_deleted_instances",
                    interval: zeroIsNever(configuration[ComputeOptions.runningDeletedPollInterval]),
                    run: { try await runningDeleted.run() }),
                PeriodicTask(
                    "heal_instance_info_cache",
                    interval: zeroIsNever(configuration[ComputeOptions.healNetworkInterval]),
                    run: { try await healing.run() }),
                PeriodicTask(
                    "image_cache_manager", interval: configuration[ComputeOptions.imageCacheInterval],
                    run: { try await driver.tidyImageCache() }),
                PeriodicTask(
                    "limit_console_logs", interval: configuration[ComputeOptions.consoleLogInterval],
                    run: { try await limitConsoleLogs() }),
                PeriodicTask(
                    "trim_journal", interval: configuration[ComputeOptions.journalTrimInterval],
                    run: { try await trim(at: journal.now()) }),
            ], of: "agent", fuzz: configuration[ComputeOptions.periodicFuzzyDelay])
    }

    private func limitConsoleLogs() async throws {
        let guests = try await journal.guests().map(\.id)
        try await driver.limitConsoleLogs(
            of: guests, to: Int64(configuration[ComputeOptions.consoleLogLimitMiB]) << 20)
    }

    /// The audit of the host: claims against guests, the host measured anew and reported, operations that nobody runs
    /// taken up. What fails of it keeps nothing else from being done.
    func updateAvailableResource() async throws {
        var first: (any Error)?
        for part in [audit, reporter.measure, dispatcher.repairLanes] as [@Sendable () async throws -> Void] {
            do {
                try await part()
            } catch {
                first = first ?? error
            }
        }
        if let first { throw first }
    }

    /// Of some options 0 means never, as in Nova.
    private func zeroIsNever(_ interval: Duration) -> Duration { interval == .zero ? .seconds(-1) : interval }

    var runningDeleted: RunningDeleted {
        RunningDeleted(
            action: RunningDeletedAction(rawValue: configuration[ComputeOptions.runningDeletedAction]) ?? .log,
            after: configuration[ComputeOptions.runningDeletedTimeout], host: identity.host, driver: driver,
            journal: journal, dispatcher: dispatcher, client: client,
            grace: configuration[ComputeOptions.shutdownTimeout])
    }
}
