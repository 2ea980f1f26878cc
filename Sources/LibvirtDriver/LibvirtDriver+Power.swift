public import Compute
internal import GuestHardware
internal import Libvirt
public import Model
internal import Telemetry
internal import XML

extension LibvirtDriver {
    /// A guest that was still starting may have missed the request, so it is repeated.
    private static let shutdownRepeat = Duration.seconds(10)

    public func define(_ guest: GuestSpecification) async throws {
        let id = guest.instance.id
        let document = try await document(of: guest)
        let text: String
        do {
            text = try document.serialized()
        } catch {
            throw Failure(.invalidParameters, "instance \(id) cannot be written as a domain: \(error)")
        }
        _ = try await own(id)
        let connection = try await connection(.work)
        directory.willDefine(id)
        do {
            // The documents are checked against the schema in our tests; here it would cost a start's tenth.
            _ = try await connection.define(xml: text, validate: false)
            directory.learn(id, .init(document, isOurs: true))
        } catch {
            directory.didNotDefine(id)
            try await refuseForeignName(guest.instance, connection)
            throw Failure(error, "defining \(guest.instance.domainName)")
        }
    }

    /// The domain's XML as the record wants it.
    func document(of guest: GuestSpecification) async throws -> XMLNode {
        let surroundings = try ready()
        let folder = try InstanceFolder(guest.instance.id, in: instancesPath)
        let plan = try await machinePlan(guest.instance.flavor, guest.image)
        let plugged = try PluggedDisk.plug(
            try await disks(of: guest), configDrive: folder.configDrive(of: guest), plan,
            rescue: try await rescueHardware(of: guest, plan))
        var document = DomainDocument(
            guest: guest, plan: plan, disks: plugged, folder: folder, settings: surroundings.settings)
        if let console = surroundings.settings.serialConsole {
            let (count, instances) = (plan.hardware.devices.serialPorts, instancesPath)
            document.listeningPorts = try await files.run { () throws(Failure) in
                try self.serialPorts.ports(count, for: folder, console, instances: instances)
            }
        }
        return document.make()
    }

    /// libvirt has no code of its own for a name that another uuid has.
    private func refuseForeignName(_ instance: Instance, _ connection: LibvirtConnection) async throws {
        let other: DomainIdentity
        do {
            other = try await connection.identity(of: .name(instance.domainName))
        } catch {
            // The error of the definition says more than one of this look.
            return
        }
        guard other.uuid != instance.id.rawValue else { return }
        throw Failure(
            .conflict, "domain \(instance.domainName) exists with the uuid \(other.uuid), not made for \(instance.id)")
    }

    public func powerOn(_ id: InstanceID) async throws {
        guard let entry = try await own(id) else { throw Self.noGuest(id) }
        try await completeAddresses(of: id)
        let connection = try await connection(.work)
        do {
            try await connection.start(.uuid(id.rawValue))
        } catch {
            // Drivers have several codes for what runs already; after a lost connection nothing can be asked.
            if error.code != .connectionLost, try await status(of: id)?.state.isActive == true { return }
            guard error.code == .operationTimeout else { throw Failure(error, "starting \(entry.name)") }
            try await renewDefinition(id, entry.name)
            try await translated("starting \(entry.name)") { try await connection.start(.uuid(id.rawValue)) }
        }
        requestUpkeep()
    }

    /// Removes the definition of a guest that is off and makes it again, disks, UEFI variables and TPM as they are.
    ///
    /// A job that libvirt has lost holds a domain even when the guest is off, and goes with its definition only. When it
    /// cannot be made again, a hard reboot makes it from the record.
    private func renewDefinition(_ id: InstanceID, _ name: String) async throws {
        let connection = try await connection(.work)
        log.warning("libvirt holds a guest that is off for a job; its definition is made anew", ["instance": id])
        try await translated("making the definition of \(name) anew") {
            let xml = try await connection.xml(of: .uuid(id.rawValue), options: [.inactive, .secure])
            try await connection.undefine(.uuid(id.rawValue), keep: [.nvram, .tpm])
            directory.forget(id)
            _ = try await connection.define(xml: xml, validate: false)
        }
    }

    public func powerOff(_ id: InstanceID, grace: Duration) async throws {
        guard let entry = try await own(id), let status = try await status(of: id), status.state.isActive else {
            return
        }
        if grace > .zero, try await shutDown(id, entry.name, grace: grace) { return }
        let connection = try await connection(.control)
        do {
            try await connection.destroy(.uuid(id.rawValue))
        } catch  where error.code == .noDomain {
            directory.forget(id)
        } catch {
            if error.code == .operationInvalid, try await self.status(of: id)?.state.isActive != true { return }
            throw Failure(error, "powering off \(entry.name)")
        }
    }

    public func softReboot(_ id: InstanceID, grace: Duration) async throws -> Bool {
        guard let entry = try await own(id) else { throw Self.noGuest(id) }
        guard try await status(of: id)?.state == .running else { return false }
        guard try await shutDown(id, entry.name, grace: grace) else { return false }
        try await powerOn(id)
        return true
    }

    public func undefine(_ id: InstanceID) async throws {
        guard let entry = try await own(id), let status = try await status(of: id) else { return }
        guard !status.state.isActive else {
            throw Failure(.hypervisor, "\(entry.name) runs; its definition cannot be removed", isRetriable: true)
        }
        let connection = try await connection(.work)
        do {
            try await connection.undefine(.uuid(id.rawValue))
        } catch  where error.code == .noDomain {
            // Somebody was quicker.
        } catch {
            throw Failure(error, "removing the definition of \(entry.name)")
        }
        directory.forget(id)
    }

    /// Asks the guest to shut down and waits. Whether it has within `grace`.
    private func shutDown(_ id: InstanceID, _ name: String, grace: Duration) async throws -> Bool {
        let subscription = stops.subscribe(id)
        defer { stops.unsubscribe(id, subscription) }
        let start = ContinuousClock.now
        while true {
            let remaining = grace - start.duration(to: .now)
            guard remaining > .zero else { return false }
            try await requestShutdown(id, name)
            await waitForSignal(subscription, atMost: min(remaining, Self.shutdownRepeat))
            try Task.checkCancellation()
            guard try await status(of: id)?.state.isActive == true else { return true }
        }
    }

    private func requestShutdown(_ id: InstanceID, _ name: String) async throws {
        let connection = try await connection(.work)
        do {
            try await connection.shutdown(.uuid(id.rawValue))
        } catch  where error.code == .operationInvalid || error.code == .noDomain {
            // It has stopped already, which the caller sees when it looks.
        } catch {
            switch error.code {
            case .connectionLost, .cancelled: throw Failure(error, "shutting \(name) down")
            default:
                // One that dies meanwhile breaks its monitor off. The caller sees whether it has; one that cannot be
                // asked has the grace all the same.
                log.notice("a guest was not asked to shut down", ["guest": name, "error": "\(error)"])
            }
        }
    }

    private func waitForSignal(_ subscription: StopSignals.Subscription, atMost limit: Duration) async {
        let clock = clock
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                var wakeUps = subscription.wakeUps.makeAsyncIterator()
                _ = await wakeUps.next()
            }
            group.addTask {
                // Ends early only when cancelled, which the caller looks for.
                do { try await clock.sleep(for: limit) } catch { return }
            }
            await group.next()
            group.cancelAll()
        }
    }

    static func noGuest(_ id: InstanceID) -> Failure { Failure(.notFound, "there is no guest \(id) here") }
}
