public import Compute
internal import Configuration
internal import Libvirt
public import Model
internal import Processes
internal import Telemetry

extension LibvirtDriver {
    /// How long libvirt may take to say what has become of a guest, when its connection breaks in the middle.
    private static let doubtLimit = Duration.seconds(60)
    private static let lookPause = Duration.milliseconds(500)
    private static let endLimit = Duration.seconds(5)
    /// The first QEMU that tracks all that an emulated guest writes (its commit 03bfc2188f: before, the fast path that
    /// takes the bits over left the emulator's TLB as it was, and what was written by it next was not noted).
    private static let tracksEmulated = PackedVersion(9, 0, 0)

    public func makeLiveSockets(of migration: MigrationID) async throws -> LiveSockets {
        let place = try LivePlace(migration, configuration)
        let owner = try await qemuOwner()
        try await files.run { () throws(Failure) in try place.make(owner: owner) }
        let paths = LiveChannel.allCases.map { ($0, place.socket($0)) }
        return LiveSockets(paths: Dictionary(uniqueKeysWithValues: paths), owner: owner?.user)
    }

    public func removeLiveSockets(of migration: MigrationID) async throws {
        let place = try LivePlace(migration, configuration)
        try await files.run { () throws(Failure) in try place.remove() }
    }

    public func sendGuest(
        _ id: InstanceID, _ plan: LivePlan,
        progress: @escaping @Sendable (MigrationProgress, _ isPostCopy: Bool) async -> Void,
        gone: @escaping @Sendable () async -> Void
    ) async throws {
        guard try await !hasLeft(id) else { return }
        let entry = try await active(id, "carried over")
        // Of an earlier life of this process, whose sockets went with it.
        try await endJob(id)
        // None where libvirt's processes are not seen from here; then libvirt alone says that the guest has left.
        let emulator = await files.run { Self.emulator(of: id) }
        let migration = try await description(of: plan, emulator)
        let control = try await connection(.control)
        var settings = LiveWatch.Settings(configuration)
        settings.permitsPostCopy = migration.options.contains(.postCopy)
        let watch = LiveWatch(
            id: id, name: entry.name, settings: settings, connection: control, clock: clock, progress: progress)
        let deadline = LiveWatch.callDeadline
        // Of its own: a call of hours must not keep others from being made.
        var options = ConnectionOptions()
        options.threads = 1
        let own = try await translated("libvirt at \(host.uri)") {
            try await LibvirtConnection.open(uri: host.uri, name: "virt-migrate", options: options)
        }
        let leaving = Task { if await emulator?.end() == true { await gone() } }
        var refusal: LibvirtError?
        // Not a child: it goes on watching when the caller is cancelled, until the call has come back.
        let watching = Task { await watch.run() }
        do {
            try await withTaskCancellationHandler {
                try await own.migrate(.uuid(id.rawValue), migration, deadline: deadline)
            } onCancel: {
                watch.abort()
            }
        } catch let error as LibvirtError {
            refusal = error
        }
        watching.cancel()
        // After a success its end has been seen, or is at once; if not, libvirt's word is enough.
        if refusal != nil { leaving.cancel() }
        let limit = Task {
            do { try await AlarmClock().sleep(for: Self.endLimit) } catch { return }
            leaving.cancel()
        }
        await leaving.value
        limit.cancel()
        await own.close(grace: .seconds(1))
        directory.forget(id)
        let reason = watch.reason
        try await regardless { [refusal] in
            try await self.settle(id, isRunning: plan.isRunning, refusal, reason, entry.name)
        }
    }

    /// The process that runs the guest. Blocks.
    private static func emulator(of id: InstanceID) -> ForeignProcess? {
        ForeignProcess.find { arguments in
            arguments.first?.contains("qemu") == true
                && arguments.firstIndex(of: "-uuid").map { arguments[arguments.index(after: $0)...].first }
                    == id.rawValue
        }
    }

    public func forceGuest(_ id: InstanceID) async throws -> Bool {
        let entry = try await active(id, "forced over")
        let connection = try await connection(.control)
        // As when it was begun.
        let emulator = await files.run { Self.emulator(of: id) }
        let permitsPostCopy = try await permitsPostCopy(isLive: runsWhileCarried(emulator))
        return try await translated("forcing \(entry.name) over") {
            guard try await connection.migrationJob(.uuid(id.rawValue)) != nil else {
                throw Failure(.conflict, "\(entry.name) is not being sent")
            }
            if permitsPostCopy {
                try await connection.startPostCopy(.uuid(id.rawValue))
                return true
            }
            // Standing still it changes no memory any more.
            try await connection.suspend(.uuid(id.rawValue))
            return false
        }
    }

    private func description(of plan: LivePlan, _ emulator: ForeignProcess?) async throws -> DomainMigration {
        func socket(_ channel: LiveChannel) -> String { plan.sockets.paths[channel] ?? "" }
        var migration = DomainMigration(destinationURI: "qemu+unix:///system?socket=\(socket(.control))")
        migration.memoryURI = "unix://" + socket(.memory)
        migration.disksURI = "unix://" + socket(.disks)
        migration.xml = plan.answer.xml
        migration.disks = plan.answer.copiedDisks
        migration.bandwidthMiB = UInt64(configuration[LiveOptions.bandwidth])
        if configuration[LiveOptions.hasNativeTLS] { migration.certificateName = plan.destination.rawValue }
        migration.isLive = try await runsWhileCarried(emulator)
        if plan.isRunning, permitsPostCopy(isLive: migration.isLive) {
            // libvirt does not let the destination's guest wait then.
            migration.options = [.postCopy]
        } else {
            // There it runs when this host's libvirt has none of it any more, and not before: never twice, whatever breaks.
            migration.options = [.paused]
            if configuration[LiveOptions.permitsAutoConverge] { migration.options.insert(.autoConverge) }
        }
        if configuration[LiveOptions.compresses] { migration.options.insert(.compressed) }
        if plan.answer.copiedDisks.isEmpty {
            // On a file system that libvirt knows to be shared it judges by itself. Of another, both hosts see the mark in
            // the guest's folder: it is one kernel's, and so is what is cached of it.
            let path = instancesPath
            let kind = try await files.run { () throws(Failure) in try Files.sharedFileSystem(at: path) }
            if kind == nil { migration.options.insert(.unsafe) }
        }
        return migration
    }

    /// Whether a guest may go on at the destination before all of its memory is there; one that is halted need not.
    private func permitsPostCopy(isLive: Bool) -> Bool { isLive && configuration[LiveOptions.permitsPostCopy] }

    /// Whether the guest's QEMU misses nothing of what it writes while its memory is carried.
    private func runsWhileCarried(_ emulator: ForeignProcess?) async throws -> Bool {
        guard try ready().settings.virtType == "qemu", configuration[LiveOptions.emulatedGuests] == .halt else {
            return true
        }
        let connection = try await connection(.work)
        let version = try await translated("asking for the hypervisor's version") {
            try await connection.hypervisorVersion()
        }
        // It may run in an older QEMU than the one that is installed by now.
        return version >= Self.tracksEmulated && emulator?.isProgramReplaced == false
    }

    /// Whether the guest is nowhere here because it has gone to another host. Removes what libvirt has left of it then.
    private func hasLeft(_ id: InstanceID) async throws -> Bool {
        guard let status = try await status(of: id) else { return true }
        guard status == DomainStatus(.shutOff, .migrated) else { return false }
        try await undefine(id)
        return true
    }

    public func departure(_ id: InstanceID, isRunning: Bool) async throws -> Departure {
        try await endJob(id)
        guard try await !hasLeft(id), let status = try await status(of: id) else { return .left }
        guard status.state.isActive else { return .unknown }
        if status.state == .paused, isRunning, ![.postCopy, .postCopyFailed].contains(status.reason) {
            try await resume(here: id)
        }
        return .stayed
    }

    public func hasArrived(_ id: InstanceID) async throws -> Bool {
        guard let entry = try await own(id) else { return false }
        let connection = try await connection(.work)
        do {
            // As long as something of it is to come its domain is not defined: libvirt does that when it has all.
            return try await connection.info(of: .uuid(id.rawValue)).isPersistent
        } catch  where error.code == .noDomain {
            directory.forget(id)
            return false
        } catch {
            throw Failure(error, "looking whether \(entry.name) has come")
        }
    }

    /// Ends a job that nobody waits for any more; one past the point of no return is waited for.
    private func endJob(_ id: InstanceID) async throws {
        let control = try await connection(.control)
        let reference = DomainReference.uuid(id.rawValue)
        let begin = ContinuousClock.now
        while true {
            do {
                guard try await control.migrationJob(reference) != nil else { return }
            } catch  where [.noDomain, .operationInvalid].contains(error.code) {
                // It is gone, or off: nothing is under way with it.
                return
            } catch {
                throw Failure(error, "looking at the jobs of \(id)")
            }
            let isPostCopy = try await status(of: id).map { $0.reason == .postCopy } ?? false
            if !isPostCopy {
                do {
                    try await control.abortJob(reference)
                } catch  where [.operationInvalid, .noDomain].contains(error.code) {
                    // It has ended meanwhile, or is at its end.
                } catch {
                    throw Failure(error, "ending the job of \(id)")
                }
                guard begin.duration(to: .now) < Self.doubtLimit else {
                    throw Failure(.unreachable, "a job of the guest \(id) does not end", isRetriable: true)
                }
            }
            try await clock.sleep(for: Self.lookPause)
        }
    }

    /// Finds out where the guest is after the call, and has it go on where it is here.
    private func settle(
        _ id: InstanceID, isRunning: Bool, _ refusal: LibvirtError?, _ reason: Failure?, _ name: String
    ) async throws {
        let begin = ContinuousClock.now
        while true {
            let status: DomainStatus?
            do {
                // The call may have ended with its connection alone, and the job goes on.
                switch try await departure(id, isRunning: isRunning) {
                case .left: return
                case .stayed, .unknown: status = try await self.status(of: id)
                }
            } catch let failure as Failure where [.unreachable, .timeout].contains(failure.kind) {
                // As long as libvirt says nothing the guest may be on either host.
                guard begin.duration(to: .now) < Self.doubtLimit else { throw failure }
                try await clock.sleep(for: Self.lookPause)
                continue
            }
            guard let status else { return }
            let failure = Self.failure(refusal, reason, name)
            switch (status.state, status.reason) {
            case (.paused, .postCopy), (.paused, .postCopyFailed):
                // What it was is at the other host by now, in part; here it cannot go on.
                try await powerOff(id, grace: .zero)
                throw Failure(
                    .hypervisor,
                    "post-copy broke off, and with it the guest \(name), which is off now: \(failure.message)")
            case _ where status.state.isActive: throw failure
            // libvirt has a word for it when it knows that the guest has left. It may have been started anew in between.
            default:
                throw Failure(
                    .unreachable, "the guest \(name) is off here, and libvirt does not say that it has left",
                    isRetriable: true)
            }
        }
    }

    private func resume(here id: InstanceID) async throws {
        let connection = try await connection(.control)
        do {
            try await connection.resume(.uuid(id.rawValue))
        } catch {
            if try await status(of: id)?.state == .running { return }
            throw Failure(error, "letting the guest \(id) go on here")
        }
    }

    private static func failure(_ refusal: LibvirtError?, _ reason: Failure?, _ name: String) -> Failure {
        if let reason { return reason }
        guard let refusal else { return Failure(.hypervisor, "\(name) was sent, and is still here") }
        var failure = Failure(refusal, "sending \(name)")
        // The guest is here, and goes on: whether it is sent again is the user's to say.
        failure.isRetriable = false
        if refusal.code == .operationAborted { failure = Failure(.cancelled, "the migration of \(name) was aborted") }
        return failure
    }
}
