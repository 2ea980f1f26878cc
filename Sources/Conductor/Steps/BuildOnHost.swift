internal import Database
internal import Model
internal import RPC
internal import Tasks
internal import Telemetry

/// Second step of a build: hands the instance to the candidates in turn until one reports it running.
struct BuildOnHost: TaskStep {
    /// How long the last candidate may be unreachable while it counts as alive: its agent may be starting anew.
    private static let patience = Duration.seconds(30)

    let name = "build_on_host"
    let deadline: Duration
    let retry = RetryPolicy.standard
    let ledger: InstanceLedger
    let command: HostCommand
    let liveness: Liveness
    let cleanup: CleanupQueue

    func run(_ state: inout BuildTaskState, _ context: StepContext) async throws -> StepOutcome {
        let candidates = state.candidates ?? []
        let saved = state.attempt
        while state.attempt < candidates.count {
            let host = candidates[state.attempt]
            guard try await !cleanup.isAdded(host: host, for: context) else {
                // Given up by a conductor that died before it had saved that: what the host has, or says that it has, is
                // being removed.
                try tryNext(host, Failure(.unreachable, "host \(host) was given up before"), &state)
                continue
            }
            if state.attempt != saved {
                // Before another host hears of it, so that whoever goes on after this conductor's death does not go back.
                return .wait(until: context.now())
            }
            let instance: Instance
            do {
                instance = try await ledger.assign(state.instance, to: host, context)
            } catch let error as StoreError {
                guard case .groupPolicy = error else { throw error }
                try tryNext(host, error.failure, &state)
                continue
            }
            let (image, password, files, attempt) = (state.image, state.adminPassword, state.files, state.attempt + 1)
            let progress = try await command.progress(
                BuildInstance.self, to: host, instance: state.instance, dispatchedEpoch: &state.dispatchedEpoch,
                context
            ) { header in
                .init(
                    header: header, instance: instance, image: image, adminPassword: password, attempt: attempt,
                    files: files)
            }
            switch progress {
            case .underWay:
                state.unreachableSince = nil
                if await liveness.isUp(host, now: context.now()) {
                    return .wait(until: context.now() + .seconds(10))
                }
                let failure = Failure(.unreachable, "host \(host) went down during the build", isRetriable: true)
                try await abandon(host, failure, &state, context)
            case .undelivered(let failure):
                let isLast = state.attempt + 1 == candidates.count
                if isLast, try await mayComeBack(host, &state, context) {
                    return .wait(until: context.now() + .milliseconds(500))
                }
                try await abandon(host, failure, &state, context)
            case .refused(let failure):
                if failure.kind == .conflict { throw Failure(.cancelled, failure.message) }
                try tryNext(host, failure, &state)
            case .ended(let report):
                guard let failure = report.failure else {
                    try await ledger.finishBuild(report, context)
                    (state.adminPassword, state.files) = (nil, nil)
                    return .next
                }
                if failure.kind == .cancelled { throw failure }
                try tryNext(host, failure, &state)
            }
        }
        throw exhausted(state)
    }

    /// Whether a host that cannot be reached is worth waiting for; where there is an alternate, that one is quicker.
    private func mayComeBack(
        _ host: HostName, _ state: inout BuildTaskState, _ context: StepContext
    ) async throws -> Bool {
        let now = context.now()
        let since = state.unreachableSince ?? now
        state.unreachableSince = since
        guard now.since(since) < Self.patience else { return false }
        return await liveness.isUp(host, now: now)
    }

    /// What the host may have made of the command is removed when it answers again.
    private func abandon(
        _ host: HostName, _ failure: Failure, _ state: inout BuildTaskState, _ context: StepContext
    ) async throws {
        try await cleanup.add(instance: state.instance, host: host, for: context)
        try tryNext(host, failure, &state)
    }

    private func tryNext(_ host: HostName, _ failure: Failure, _ state: inout BuildTaskState) throws {
        state.failures.append(HostFailure(host: host, failure: failure))
        switch failure.kind {
        // The same on every host, so another try would only take time.
        case .imageUnacceptable, .invalidParameters: throw failure
        default: break
        }
        state.attempt += 1
        (state.dispatchedEpoch, state.unreachableSince) = (nil, nil)
    }

    private func exhausted(_ state: BuildTaskState) -> Failure {
        let reasons = state.failures.map { "\($0.host): \($0.failure.message)" }.joined(separator: "; ")
        guard state.failures.count != 1 else {
            // Room that the scheduler saw was somebody else's by then: the same as if it had seen none.
            return state.failures[0].failure.kind == .insufficientResources
                ? Failure(.noValidHost, "No valid host was found. Host \(reasons)")
                : Failure(.hypervisor, "Build failed on host \(reasons)")
        }
        return Failure(
            .noValidHost,
            "No valid host was found. Exhausted all \(state.failures.count) hosts available for this build. \(reasons)")
    }
}
