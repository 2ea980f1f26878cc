internal import Glibc
internal import HTTP
internal import Model
internal import RPC
internal import Scheduling
internal import Synchronization
internal import Telemetry

/// What the hosts do by themselves.
extension SimulatedFleet {
    // MARK: Operations

    /// Carries an operation to its end, if it has not ended before, and tells that end until a conductor has taken it.
    func carry(_ task: TaskID, on index: Int) async {
        let start = now()
        guard let operation = state.withLock({ $0.hosts[index].operations[task] }) else { return }
        if !operation.isOver {
            let pause = state.withLock { duration(of: operation.kind, using: &$0.generator) }
            do { try await clock.sleep(for: pause) } catch { return }
            await waitUntilBack(index)
            var failure: Failure?
            if case .snapshot(let image) = operation.kind {
                failure = await fill(image, of: operation.header.instance, on: index)
            }
            end(task, failure, on: index)
            changed(index)
        }
        await report(task, since: start, on: index)
    }

    /// A guest's build takes about as long as the settings say, its removal a quarter of that.
    func duration(
        of kind: HostState.Operation.Kind, using generator: inout SeededGenerator
    ) -> Duration {
        let (first, second) = (Double.random(in: 0..<1, using: &generator), Double.random(in: 0..<1, using: &generator))
        let normal = (-2 * Glibc.log(1 - first)).squareRoot() * cos(2 * .pi * second)
        return (kind == .build ? settings.buildTime : settings.buildTime / 4) * exp(0.5 * normal)
    }

    /// Uploads an image of a guest, as small as there can be one; says why that came to nothing.
    private func fill(_ image: ImageID, of instance: InstanceID, on index: Int) async -> Failure? {
        var pause = Duration.milliseconds(200)
        while !Task.isCancelled {
            do throws(Failure) {
                try await upload(image, of: instance, on: index)
                return nil
            } catch {
                // Deleted meanwhile, its image is nobody's any more.
                let isHere = state.withLock { $0.hosts[index].guests[instance]?.isDoomed == false }
                guard isHere, error.isRetriable || error.kind == .timeout else { return error }
            }
            do { try await clock.sleep(for: pause) } catch { break }
            pause = min(pause * 2, .seconds(5))
        }
        return Failure(.cancelled, "the simulation ends")
    }

    private func upload(_ image: ImageID, of instance: InstanceID, on index: Int) async throws(Failure) {
        let host = state.withLock { $0.hosts[index].host.name }
        let ticket = try await clients[index].call(
            GetImageTicket.self, .init(host: host, instance: instance, image: image, isUpload: true))
        guard ticket.stored == nil else { return }
        let request = ClientRequest(
            method: .put, url: ticket.url,
            headers: ["X-Apus-Ticket": ticket.ticket, "Content-Type": "application/octet-stream"],
            body: .bytes([UInt8](repeating: 0, count: 4_096)), timeout: .seconds(30))
        let answer: ClientResponse
        do {
            answer = try await http.send(request)
        } catch {
            throw error.failure
        }
        guard (200...299).contains(answer.status) else {
            let said = String(decoding: answer.body.prefix(200), as: UTF8.self)
            throw Failure(
                .unreachable, "the upload of image \(image) was answered \(answer.status): \(said)",
                isRetriable: answer.status == 409 || answer.status >= 500 || answer.status == 401)
        }
    }

    private func end(_ task: TaskID, _ failure: Failure?, on index: Int) {
        state.withLock { state in
            guard var operation = state.hosts[index].operations[task] else { return }
            let id = operation.header.instance
            switch operation.kind {
            case .deletion:
                state.hosts[index].guests[id] = nil
                state.counts.deletions += 1
            case .snapshot:
                operation.outcome = failure
                if failure == nil { state.counts.snapshots += 1 } else { state.counts.failedSnapshots += 1 }
            case .build where state.hosts[index].guests[id]?.isDoomed != false:
                operation.outcome = Failure(.cancelled, "the guest was deleted while it was being built")
            case .build where Double.random(in: 0..<1, using: &state.generator) < settings.failureShare:
                operation.outcome = Failure(.internalError, "the simulated guest does not boot", isRetriable: true)
                state.hosts[index].guests[id] = nil
                state.counts.failedBuilds += 1
            case .build:
                state.hosts[index].guests[id]?.isBuilt = true
                state.counts.builds += 1
            }
            operation.isOver = true
            state.hosts[index].operations[task] = operation
        }
    }

    private func report(_ task: TaskID, since start: Timestamp, on index: Int) async {
        var pause = Duration.milliseconds(200)
        while !Task.isCancelled {
            await waitUntilBack(index)
            let made = state.withLock { state -> (ReportOperation.Params, isBuilt: Bool)? in
                guard let operation = state.hosts[index].operations[task] else { return nil }
                let isBuilt = operation.kind == .build && operation.outcome == nil
                // A guest that an image is made of runs on.
                let isOn = isBuilt || (operation.kind != .build && operation.kind != .deletion)
                let end = now()
                let length = Double(end.microseconds - start.microseconds) / 1_000
                let report = ReportOperation.Params(
                    header: operation.header, host: state.hosts[index].host.name, failure: operation.outcome,
                    vmState: isOn ? .active : nil, powerState: isOn ? .running : .noState,
                    interfaces: isBuilt ? [] : nil, launchedAt: isBuilt ? end : nil,
                    steps: [.init(name: operation.kind.stepName, milliseconds: length)],
                    endedAt: end, sequence: state.hosts[index].nextSequence())
                return (report, isBuilt)
            }
            guard let (report, isBuilt) = made else { return }
            do {
                _ = try await clients[index].call(ReportOperation.self, report)
                if isBuilt { state.withLock { $0.built.append(report.header.instance) } }
                return
            } catch {
                state.withLock { $0.counts.failedReports += 1 }
                guard error.isRetriable || error.kind == .timeout else { return }
                do { try await clock.sleep(for: pause) } catch { return }
                pause = min(pause * 2, .seconds(10))
            }
        }
    }

    // MARK: Reports

    /// Tells conductors what a host uses, as often as that changes meanwhile.
    func tell(_ index: Int) async {
        var pause = Duration.milliseconds(200)
        while !Task.isCancelled {
            await waitUntilBack(index)
            let (report, base) = state.withLock { state in
                state.hosts[index].isDirty = false
                return (state.hosts[index].report(at: now()), state.hosts[index].taken)
            }
            do {
                let taken = try await send(report, since: base, on: index)
                pause = .milliseconds(200)
                let isOver = state.withLock { state in
                    state.counts.reports += 1
                    state.hosts[index].taken = taken
                    guard !state.hosts[index].isDirty else { return false }
                    state.hosts[index].isReporting = false
                    return true
                }
                if isOver { return }
            } catch {
                state.withLock { state in
                    state.counts.failedReports += 1
                    state.hosts[index].isDirty = true
                }
                do { try await clock.sleep(for: pause) } catch { return }
                pause = min(pause * 2, .seconds(10))
            }
        }
    }

    /// The report that a conductor has afterwards.
    private func send(_ report: HostReport, since base: HostReport?, on index: Int) async throws -> HostReport {
        if let base, let usage = report.usage(since: base) {
            let change = ReportHostChange.Params(
                host: report.host, uuid: report.uuid, base: base.sequence, sequence: report.sequence,
                measuredAt: report.measuredAt, usage: usage.isEmpty ? nil : usage)
            if try await clients[index].call(ReportHostChange.self, change).isTaken {
                // What was confirmed is stored under its own number.
                return usage.isEmpty ? base : report
            }
        }
        _ = try await clients[index].call(ReportHost.self, .init(report: report))
        return report
    }

    // MARK: Beats

    func heartbeat(_ index: Int) -> Heartbeat.Params {
        state.withLock { state in
            Heartbeat.Params(
                host: state.hosts[index].host.name, binary: "nova-compute", version: 1,
                sequence: state.hosts[index].nextSequence(), uuid: state.hosts[index].uuid)
        }
    }

    /// Spreads the hosts' beats, and the reports of hosts on which nothing changes, evenly over their intervals.
    func keepBeating() async {
        let start = ContinuousClock.now
        let count = clients.count
        var (beats, reports) = (0, 0)
        await withDiscardingTaskGroup { group in
            while !Task.isCancelled {
                let passed = ContinuousClock.now - start
                let due = Int(passed / settings.heartbeatInterval * Double(count))
                while beats < due {
                    let index = beats % count
                    beats += 1
                    group.addTask { await self.beat(index) }
                }
                let dueReports = Int(passed / settings.reportInterval * Double(count))
                while reports < dueReports {
                    changed(reports % count)
                    reports += 1
                }
                do { try await clock.sleep(for: .milliseconds(10)) } catch { return }
            }
        }
    }

    private func beat(_ index: Int) async {
        let mayBeat = state.withLock { state in
            guard !state.hosts[index].isAway else { return false }
            guard !state.hosts[index].isBeating else {
                state.counts.lateHeartbeats += 1
                return false
            }
            state.hosts[index].isBeating = true
            return true
        }
        guard mayBeat else { return }
        do {
            _ = try await clients[index].call(Heartbeat.self, heartbeat(index))
            state.withLock { $0.counts.heartbeats += 1 }
        } catch {
            if !Task.isCancelled {
                state.withLock { $0.counts.lostHeartbeats += 1 }
                log.warning("a heartbeat is not heard", ["failure": error])
            }
        }
        state.withLock { $0.hosts[index].isBeating = false }
    }

    // MARK: Deaths

    /// Has hosts go away, one at a time, and come back.
    func keepDying() async {
        guard settings.deathsPerMinute > 0, !clients.isEmpty else { return }
        await withDiscardingTaskGroup { group in
            while !Task.isCancelled {
                do { try await clock.sleep(for: .seconds(60 / settings.deathsPerMinute)) } catch { return }
                let victim = state.withLock { state -> Int? in
                    let index = Int.random(in: 0..<state.hosts.count, using: &state.generator)
                    guard !state.hosts[index].isAway else { return nil }
                    state.hosts[index].isAway = true
                    state.counts.deaths += 1
                    return index
                }
                guard let victim else { continue }
                group.addTask {
                    do { try await self.clock.sleep(for: self.settings.absence) } catch {}
                    self.state.withLock { $0.hosts[victim].isAway = false }
                }
            }
        }
    }

    /// A host that is away does nothing; what it was at goes on when it is back.
    private func waitUntilBack(_ index: Int) async {
        while !Task.isCancelled, state.withLock({ $0.hosts[index].isAway }) {
            do { try await clock.sleep(for: .milliseconds(200)) } catch { return }
        }
    }
}

extension HostState.Operation.Kind {
    fileprivate var stepName: String {
        switch self {
        case .build: "start"
        case .deletion: "undefine"
        case .snapshot: "upload"
        }
    }
}
