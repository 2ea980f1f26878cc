internal import Compute
internal import Configuration
internal import Libvirt
public import Model
internal import Synchronization
internal import Telemetry

extension LibvirtDriver {
    /// From what another host's guest is to have here until it has been plugged in.
    private static let arrivalTime = Duration.seconds(3)
    private static let arrivalPatience = Duration.seconds(10)

    public func plugNetwork(_ instance: Instance) async throws -> [NetworkInterface] {
        switch (instance.networks, binding) {
        case (.none, _): []
        case (.auto, .bridge(let bridge)):
            [NetworkInterface(network: bridge, macAddress: freeMAC(instance.id))]
        case (.auto, .libvirt(let network)):
            [try await book(of: network).plug(instance.id)]
        }
    }

    public func unplugNetwork(_ id: InstanceID, _ interfaces: [NetworkInterface]) async throws {
        for network in networks(of: interfaces) { try await book(of: network).unplug(id) }
        requestUpkeep()
    }

    /// The libvirt networks where an instance may have addresses.
    func networks(of interfaces: [NetworkInterface]) -> [String] {
        var networks = Set(
            interfaces.compactMap { interface -> String? in
                guard case .libvirt(let name) = binding.binding(of: interface) else { return nil }
                return name
            })
        // What was reserved just before a crash is in no record of the agent's.
        if case .libvirt(let name) = binding { networks.insert(name) }
        return networks.sorted()
    }

    /// The book of a network's addresses.
    func book(of network: String) -> AddressBook {
        books.withLock { books in
            if let known = books[network] { return known }
            let made = AddressBook(
                network: network, folder: networksFolder.withLock { $0 },
                spares: configuration[LibvirtDriverOptions.spareAddresses], files: files,
                access: AddressBook.Access(
                    connection: { [unowned self] in try await connection(.work) },
                    users: { [unowned self] in try await usersOfMACs() },
                    quiet: { [unowned self] in try await waitForQuiet() }))
            books[network] = made
            return made
        }
    }

    /// Keeps the spare addresses in order each time somebody has asked for it, until cancelled. Asked for after a start
    /// and after a removal, not before: libvirt makes a start wait while the network changes.
    func keepAddresses() async {
        guard case .libvirt(let network) = binding else { return }
        for await _ in upkeepRequests {
            do {
                try await book(of: network).maintain()
            } catch {
                if Task.isCancelled { return }
                // Asked for again at the next start or removal of a guest; until then addresses are reserved one by one.
                log.info("spare addresses are not in order", ["network": network, "error": LoggedError(error)])
            }
        }
    }

    func requestUpkeep() { upkeepSink.yield() }

    /// Returns when no guest of another host has been about to come for a while: its way here needs the network. A host
    /// where guests come all the time does not wait for ever.
    private func waitForQuiet() async throws {
        let limit = ContinuousClock.now + Self.arrivalPatience
        while let last = lastArrival.withLock({ $0 }) {
            let pause = ContinuousClock.now.duration(to: min(last + Self.arrivalTime, limit))
            guard pause > .zero else { return }
            try await AlarmClock().sleep(for: pause)
        }
    }

    /// Has libvirt reserve what it has not of the instance's addresses, before its guest starts.
    func completeAddresses(of id: InstanceID) async throws {
        guard case .libvirt(let network) = binding else { return }
        try await book(of: network).complete(id)
    }

    /// Every domain's MACs, looked up where they are not known yet.
    func usersOfMACs() async throws -> [String: InstanceID] {
        for domain in try await allDomains() { _ = try await entry(of: domain) }
        return directory.users
    }

    /// An address that no domain known here has; the same for the same `key`, which a NIC of its own has.
    func freeMAC(_ id: InstanceID, key: String = "0") -> String {
        var attempt = 0
        while true {
            let mac = MACAddress.make(id, nic: key, attempt: attempt)
            if directory.users[mac, default: id] == id { return mac }
            attempt += 1
        }
    }
}
