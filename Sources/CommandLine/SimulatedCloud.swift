internal import CSystem
internal import Crypto
internal import Database
internal import FoundationEssentials
internal import Glibc
internal import HTTP
internal import Model
internal import Processes
internal import Scheduling
internal import Simulation
internal import Tasks
internal import Telemetry

/// A control plane of one's own for a simulation: its folder, its processes, its load.
struct SimulatedCloud: Sendable {
    private static let startLimit = Duration.seconds(60)
    private static let settleLimit = Duration.seconds(180)
    private static let restartDelay = Duration.seconds(3)
    /// What is killed, when something is.
    private static let victim = "apus-conductor"

    let plan: SimulationPlan
    let folder: String
    private let settings: UpSettings
    /// The conductors' and their schedulers' ports, in pairs.
    private let ports: [(conductor: UInt16, scheduler: UInt16)]

    /// Makes the folder and chooses ports.
    init(_ plan: SimulationPlan) throws {
        self.plan = plan
        var template = Array("/tmp/apus-simulation-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw FileError(path: "/tmp", call: "mkdtemp", code: errno) }
        folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        ports = try (0..<plan.conductors).map { _ in
            (try freePort(on: "127.0.0.1"), try freePort(on: "127.0.0.1"))
        }
        let api = try freePort(on: "127.0.0.1")
        let conductors = ports.map { "http://127.0.0.1:\($0.conductor)" }.joined(separator: ",")
        let file = "\(folder)/apus.conf"
        try writePrivateFile(
            file,
            """
            [DEFAULT]
            state_path = \(folder)
            host = control
            [api]
            listen = 127.0.0.1:\(api)
            conductor_urls = \(conductors)
            [conductor]
            listen = 127.0.0.1:\(ports[0].conductor)
            scheduler_urls = http://127.0.0.1:\(ports[0].scheduler)
            [scheduler]
            listen = 127.0.0.1:\(ports[0].scheduler)
            conductor_urls = \(conductors)
            [image]
            data_url = http://127.0.0.1:\(api)
            [libvirt]
            snapshot_image_format = raw
            [quota]
            instances = -1
            cores = -1
            ram = -1
            \(plan.database.map { "[database]\nconnection = \($0)\n" } ?? "")
            """)
        settings = try UpSettings(files: [file], overrides: [])
    }

    /// Removes the folder, unless it is to be kept.
    func end(_ say: (String) -> Void) {
        guard !plan.isKept else { return say("kept: \(folder)") }
        do { try FileManager.default.removeItem(atPath: folder) } catch { say("\(folder) cannot be removed: \(error)") }
    }

    /// Starts the processes, has hosts and load play their part, and looks at what there is in the end.
    func run(_ say: @escaping @Sendable (String) -> Void) async throws -> SimulationResult {
        let database: ControlDatabase
        do {
            database = try await openDatabase(settings)
        } catch {
            throw CommandError.failure(UpFailure.explain(error, settings: settings))
        }
        do {
            let result = try await run(on: database, say)
            await database.close()
            return result
        } catch {
            await database.close()
            throw error
        }
    }

    private func run(
        on database: ControlDatabase, _ say: @escaping @Sendable (String) -> Void
    ) async throws -> SimulationResult {
        guard try await database.hosts.list().isEmpty else {
            throw CommandError.failure("The database is in use: give one that is new.")
        }
        _ = try await Bootstrap(settings: settings).make(database)
        let fleet = try SimulatedFleet(
            makeHosts(), conductors: ports.map { "http://127.0.0.1:\($0.conductor)" }, settings: plan.settings,
            now: database.now)
        // Before anybody else writes: so many transactions take a while.
        try await enroll(fleet, database)
        let processes = RoleGroup(tellsEnds: false)
        for (name, arguments) in programs() { processes.start(name) { try await run(name, arguments) } }
        do {
            let result = try await withThrowingTaskGroup(of: SimulationResult?.self) { group in
                group.addTask {
                    try await RoleGroup.firstEnd(of: [processes])
                    return nil
                }
                group.addTask { try await play(fleet, database, say) }
                defer { group.cancelAll() }
                while let result = try await group.next() {
                    if let result { return result }
                }
                throw CancellationError()
            }
            await processes.stop()
            return result
        } catch {
            await processes.stop()
            throw error
        }
    }

    // MARK: Processes

    private func programs() -> [(name: String, arguments: [String])] {
        var found: [(String, [String])] = [("apus-api", [])]
        for (number, port) in ports.enumerated() {
            // Each has a name of its own, under which it has tasks, and asks its own scheduler first.
            let name = number == 0 ? "control" : "control-\(number + 1)"
            let schedulers = (ports[number...] + ports[..<number]).map { "http://127.0.0.1:\($0.scheduler)" }
            found.append(
                (
                    "apus-conductor",
                    [
                        "--set", "DEFAULT.host=\(name)", "--set", "conductor.listen=127.0.0.1:\(port.conductor)",
                        "--set", "conductor.scheduler_urls=\(schedulers.joined(separator: ","))",
                    ]
                ))
            found.append(
                (
                    "apus-scheduler",
                    ["--set", "DEFAULT.host=\(name)", "--set", "scheduler.listen=127.0.0.1:\(port.scheduler)"]
                ))
        }
        return found
    }

    private func run(_ name: String, _ arguments: [String]) async throws {
        let own = ProcessTable.ownProgram
        let place = own.lastIndex(of: "/").map { String(own[...$0]) } ?? ""
        let script = #"exec "$0" "$@" >>"$LOG" 2>&1"#
        let command = Processes.Command(
            "/bin/sh", ["-c", script, place + name, "--config-file", "\(folder)/apus.conf"] + arguments,
            environment: ["PATH": "/usr/bin:/bin", "LOG": "\(folder)/\(name).log"], timeout: .seconds(86_400 * 7))
        var result = try await Processes.run(command)
        while plan.killsPerMinute > 0, name == Self.victim, result.status == 128 + SIGKILL {
            // Later than the others need to go on with what it was at.
            try await AlarmClock().sleep(for: Self.restartDelay)
            result = try await Processes.run(command)
        }
        throw CommandError.failure(
            "\(name) has ended with \(result.status): \(result.errorText)\(logEnd("\(folder)/\(name).log"))")
    }

    private func logEnd(_ path: String) -> String {
        let text = (try? readTextFile(path)) ?? nil
        return (text ?? "").split(separator: "\n").suffix(5).joined(separator: "\n")
    }

    // MARK: The play

    private func makeHosts() -> [SimulatedHost] {
        (1...plan.hosts).map { number in
            SimulatedHost(
                name: HostName("sim-\(number)"), secret: Hex.encode(randomBytes(24)),
                conductorSecret: Hex.encode(randomBytes(24)))
        }
    }

    private func play(
        _ fleet: SimulatedFleet, _ database: ControlDatabase, _ say: @escaping @Sendable (String) -> Void
    ) async throws -> SimulationResult {
        let http = HTTPClient(maxConnectionsPerHost: 32)
        for url in settings.listens.filter({ $0.role != "agent" }).map(\.url) { try await waitFor(url, http) }
        for port in ports {
            for number in [port.conductor, port.scheduler] { try await waitFor("http://127.0.0.1:\(number)", http) }
        }
        say("the control plane runs; \(plan.hosts) hosts introduce themselves")
        try await fleet.introduce()
        let path = "\(folder)/clouds.yaml"
        let login = try CloudSettings.load(
            cloud: "apus", environment: ["OS_CLIENT_CONFIG_FILE": path], readFile: { try readTextFile($0) })
        let client = CloudClient(settings: login) { request throws(HTTPClientError) in try await http.send(request) }
        let played = Task { await fleet.run() }
        defer { played.cancel() }
        let load = SimulationLoad(plan: plan, client: client, fleet: fleet)
        say(plan.burst > 0 ? "\(plan.burst) servers are launched" : "servers are launched for \(plan.seconds) s")
        var result = SimulationResult(plan: plan)
        let before = processorTimes()
        let (start, began) = (ContinuousClock.now, database.now())
        let killer = Task { await keepKilling(database) }
        defer { killer.cancel() }
        let accepted = try await load.run()
        result.elapsed = (ContinuousClock.now - start) / .seconds(1)
        killer.cancel()
        (result.kills, result.failovers) = await killer.value
        result.usages = usages(since: before, over: result.elapsed)
        (result.accepted, result.refused) = (accepted.ids.count, accepted.refused)
        result.snapshotsAccepted = accepted.snapshots.count
        (result.deletionsAccepted, result.unsent) = (accepted.deletions.count, accepted.unsent)
        say("waiting for what is under way")
        try await settle(fleet, database)
        result.hosts = fleet.counts
        if plan.burst > 0, let last = fleet.lastClaim { result.burstSeconds = last.since(began) / .seconds(1) }
        if plan.database == nil { result.databaseMiB = databaseSize() }
        try await SimulationAudit(database: database, fleet: fleet).run(accepted, into: &result)
        played.cancel()
        await played.value
        await http.shutdown()
        return result
    }

    private func enroll(_ fleet: SimulatedFleet, _ database: ControlDatabase) async throws {
        let (url, now) = (fleet.url, database.now())
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (started, host) in fleet.hosts.enumerated() {
                if started >= 32 { try await group.next() }
                group.addTask {
                    let token = randomBytes(32)
                    try await database.credentials.enroll(
                        host.name, tokenHash: token, expiresAt: now + .seconds(900), now: now)
                    let admission = HostAdmission(
                        url: url, hostSecretHash: digest(.sha256, of: Array(host.secret.utf8)),
                        conductorSecret: host.conductorSecret, certificateFingerprint: nil)
                    _ = try await database.credentials.admit(host.name, tokenHash: token, admission, now: now)
                }
            }
            try await group.waitForAll()
        }
    }

    private func waitFor(_ url: String, _ http: HTTPClient) async throws {
        let until = ContinuousClock.now + Self.startLimit
        while true {
            do {
                _ = try await http.send(ClientRequest(method: .get, url: url + "/"))
                return
            } catch {
                guard ContinuousClock.now < until else {
                    throw CommandError.failure("Nothing answers at \(url); the logs are in \(folder).")
                }
                try await AlarmClock().sleep(for: .milliseconds(50))
            }
        }
    }

    private func settle(_ fleet: SimulatedFleet, _ database: ControlDatabase) async throws {
        let until = ContinuousClock.now + Self.settleLimit
        while ContinuousClock.now < until {
            let open = try await database.tasks.list(instance: nil, unfinishedOnly: true, limit: 1)
            if open.isEmpty, fleet.isSettled { return }
            try await AlarmClock().sleep(for: .milliseconds(200))
        }
    }

    /// Kills conductors, one at a time, until it is cancelled; gives how many, and the seconds after which others had
    /// taken over all that each was at.
    private func keepKilling(_ database: ControlDatabase) async -> (kills: Int, failovers: [Double]) {
        guard plan.killsPerMinute > 0 else { return (0, []) }
        var generator = SeededGenerator(seed: plan.settings.seed)
        var kills = 0
        var failovers: [Double] = []
        while true {
            let pause = Duration.seconds(60) / plan.killsPerMinute
            do { try await AlarmClock().sleep(for: pause) } catch { return (kills, failovers) }
            let pids = ProcessTable.children(of: getpid()).filter { $0.name == Self.victim }.map(\.pid)
            guard let pid = pids.randomElement(using: &generator), let host = ProcessTable.host(of: pid) else {
                continue
            }
            let held = try? await tasks(of: "conductor@\(host)", database)
            // A child of this process's own that nobody has waited for yet: the number is not somebody else's.
            guard ProcessTable.children(of: getpid()).contains(where: { $0.pid == pid && $0.name == Self.victim })
            else {
                continue
            }
            kill(pid, SIGKILL)
            kills += 1
            guard let held, !held.isEmpty, plan.conductors > 1 else { continue }
            if let seconds = await takeover(of: held, database) { failovers.append(seconds) }
        }
    }

    private func tasks(of owner: String, _ database: ControlDatabase) async throws -> [TaskID: Int64] {
        let rows = try await database.tasks.list(instance: nil, unfinishedOnly: true, limit: 1_000)
        return Dictionary(uniqueKeysWithValues: rows.filter { $0.owner == owner }.map { ($0.id, $0.epoch) })
    }

    /// The seconds until each of some tasks has ended, or has another epoch, or for which that was waited for; `nil` when
    /// it is cancelled.
    private func takeover(of held: [TaskID: Int64], _ database: ControlDatabase) async -> Double? {
        let start = ContinuousClock.now
        var left = held
        while ContinuousClock.now - start < Self.settleLimit {
            for (id, epoch) in left {
                guard let row = try? await database.tasks.find(id) else { continue }
                if row.status.isFinished || row.epoch != epoch { left[id] = nil }
            }
            if left.isEmpty { return (ContinuousClock.now - start) / .seconds(1) }
            do { try await AlarmClock().sleep(for: .milliseconds(20)) } catch { return nil }
        }
        return Self.settleLimit / .seconds(1)
    }

    // MARK: What it took

    private func processorTimes() -> [Int32: (name: String, seconds: Double)] {
        Dictionary(
            uniqueKeysWithValues: ProcessTable.children(of: getpid()).map { pid, name in
                (pid, (name, ProcessTable.processorSeconds(of: pid)))
            })
    }

    private func usages(
        since before: [Int32: (name: String, seconds: Double)], over elapsed: Double
    ) -> [SimulationResult.Usage] {
        before.compactMap { pid, then in
            let seconds = ProcessTable.processorSeconds(of: pid)
            // One that was killed has nothing to show any more; its successor was not there from the beginning.
            guard seconds >= then.seconds else { return nil }
            return SimulationResult.Usage(
                program: then.name, cores: (seconds - then.seconds) / elapsed,
                memoryMiB: ProcessTable.peakMemoryMiB(of: pid))
        }.sorted { $0.program < $1.program }
    }

    private func databaseSize() -> Double {
        var bytes = 0.0
        for end in ["", "-wal"] {
            var status = stat()
            if stat("\(folder)/apus.db\(end)", &status) == 0 { bytes += Double(status.st_size) }
        }
        return bytes / 1_048_576
    }
}
