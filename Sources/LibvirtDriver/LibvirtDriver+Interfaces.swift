public import Compute
internal import Configuration
internal import Libvirt
public import Model
internal import XML

extension LibvirtDriver {
    public func plugInterface(
        _ guest: GuestSpecification, key: String, ipv4Address: String?, tag: String?
    ) async throws -> NetworkInterface {
        let id = guest.instance.id
        switch binding {
        case .bridge(let bridge):
            guard ipv4Address == nil else {
                throw Failure(.invalidParameters, "addresses on the bridge \(bridge) are not given out by this host")
            }
            return NetworkInterface(network: bridge, macAddress: freeMAC(id, key: key), tag: tag)
        case .libvirt(let network):
            var wanted: IPv4Address?
            if let ipv4Address {
                guard let parsed = IPv4Address(ipv4Address) else {
                    throw Failure(.invalidParameters, "'\(ipv4Address)' is no IPv4 address")
                }
                wanted = parsed
            }
            var interface = try await book(of: network).plug(id, key: key, address: wanted)
            interface.tag = tag
            return interface
        }
    }

    public func unplugInterface(_ interface: NetworkInterface, of id: InstanceID) async throws {
        guard case .libvirt(let network) = binding.binding(of: interface) else { return }
        try await book(of: network).unplug(id, mac: interface.macAddress)
        requestUpkeep()
    }

    public func attachInterface(_ interface: NetworkInterface, to guest: GuestSpecification) async throws {
        let id = guest.instance.id
        let mac = interface.macAddress.lowercased()
        guard let entry = try await own(id) else { throw Self.noGuest(id) }
        if try await status(of: id)?.state.isActive == true, try await nic(mac, of: id) == nil {
            guard let device = try await document(of: guest).all("devices/interface").first(where: { $0.mac == mac })
            else { throw Failure(.internalError, "\(entry.name) has no NIC \(mac) on record") }
            let text = try device.serialized()
            do {
                try await connection(.work).attachDevice(.uuid(id.rawValue), xml: text, .live)
            } catch let error as LibvirtError {
                throw Failure(error, "plugging the NIC \(mac) into \(entry.name)")
            }
        }
        try await define(guest)
    }

    public func detachInterface(_ interface: NetworkInterface, from guest: GuestSpecification) async throws {
        let id = guest.instance.id
        let mac = interface.macAddress.lowercased()
        guard try await own(id) != nil else { return }
        if try await status(of: id)?.state.isActive == true { try await unplug(mac, id) }
        var rest = guest
        rest.interfaces.removeAll { $0.macAddress.lowercased() == mac }
        try await define(rest)
    }

    /// Asks the guest to let go of a NIC, until it has.
    private func unplug(_ mac: String, _ id: InstanceID) async throws {
        let attempts = configuration[LibvirtDriverOptions.deviceDetachAttempts]
        let patience = configuration[LibvirtDriverOptions.deviceDetachTimeout]
        for _ in 0..<attempts {
            guard let device = try await nic(mac, of: id) else { return }
            guard let alias = device.first("alias")?["name"] else {
                throw Failure(.hypervisor, "libvirt has no name for the NIC \(mac) of instance \(id)")
            }
            guard try await status(of: id)?.state != .paused else {
                throw Failure(.conflict, "instance \(id) is paused; its guest cannot let go of the NIC \(mac)")
            }
            let text = try device.serialized()
            let isRemoved = try await removals.answer(of: id, alias, atMost: patience, clock: clock) {
                do {
                    try await connection(.work).detachDevice(.uuid(id.rawValue), xml: text, .live)
                } catch let error as LibvirtError {
                    switch error.code {
                    // Gone, or still busy with an earlier request: the look at the next turn tells.
                    case .deviceMissing, .operationInvalid, .operationFailed, .other: break
                    default: throw Failure(error, "unplugging the NIC \(mac) of instance \(id)")
                    }
                }
            }
            try Task.checkCancellation()
            if isRemoved == true { return }
        }
        guard try await nic(mac, of: id) != nil else { return }
        throw Failure(
            .timeout,
            "the guest of instance \(id) has not let go of the NIC \(mac) in \(attempts) times \(patience.inSeconds) s")
    }

    /// A NIC of the running guest, as libvirt describes it.
    private func nic(_ mac: String, of id: InstanceID) async throws -> XMLNode? {
        let connection = try await connection(.work)
        do {
            let document = try XMLNode(parsing: try await connection.xml(of: .uuid(id.rawValue)))
            return document.all("devices/interface").first { $0.mac == mac }
        } catch let error as LibvirtError {
            throw Failure(error, "looking at the NICs of instance \(id)")
        }
    }
}

extension XMLNode {
    fileprivate var mac: String? { first("mac")?["address"]?.lowercased() }
}
