internal import Libvirt
public import Model
internal import Telemetry
internal import XML

extension LibvirtDriver {
    public func mediatedDeviceParents() async throws -> [MediatedDeviceParent] {
        let connection = try await connection(.work)
        // One that comes or goes meanwhile must not count beside the room for it: only those that are there before and
        // after the look at the physical devices count.
        let before = Set(try await existing(connection).map(\.device))
        let parents = try await translated("looking at the devices that can be shared") {
            try await connection.nodeDevices(.mediatedParent)
        }
        let devices = try await existing(connection).map(\.device).filter(before.contains)
        return readable(parents).compactMap { MediatedDeviceParent($0, existing: devices) }
    }

    public func createMediatedDevices(_ devices: [MediatedDevice]) async throws {
        guard !devices.isEmpty else { return }
        let connection = try await connection(.work)
        let there = Set(try await existing(connection).map(\.device.uuid))
        for device in devices where !there.contains(device.uuid) {
            let text: String
            do {
                text = try device.document.serialized()
            } catch {
                throw Failure(.invalidParameters, "mediated device \(device.uuid) cannot be described: \(error)")
            }
            do {
                _ = try await connection.createNodeDevice(xml: text)
            } catch {
                // Whoever was quicker, or a call that was thought to be lost, has made it.
                if error.code != .connectionLost,
                    try await existing(connection).contains(where: { $0.device.uuid == device.uuid })
                {
                    continue
                }
                throw Failure(error, "making a \(device.type) of \(device.parentAddress)")
            }
        }
    }

    public func removeMediatedDevices(_ devices: [MediatedDevice]) async throws {
        guard !devices.isEmpty else { return }
        let connection = try await connection(.work)
        let unwanted = Set(devices.map(\.uuid))
        for found in try await existing(connection) where unwanted.contains(found.device.uuid) {
            do {
                try await connection.destroyNodeDevice(named: found.name)
            } catch  where error.code == .noNodeDevice {
                // Somebody was quicker.
            } catch {
                throw Failure(error, "removing the mediated device \(found.device.uuid)")
            }
        }
    }

    private func existing(_ connection: LibvirtConnection) async throws -> [ExistingMediatedDevice] {
        let texts = try await translated("looking for mediated devices") { try await connection.nodeDevices(.mediated) }
        return readable(texts).compactMap { ExistingMediatedDevice($0) }
    }

    /// The descriptions of devices that are XML.
    func readable(_ texts: [String]) -> [XMLNode] {
        texts.compactMap { text in
            do {
                return try XMLNode(parsing: text)
            } catch {
                log.warning("a device of the host cannot be read", ["error": LoggedError(error)])
                return nil
            }
        }
    }
}

/// A mediated device as libvirt has it.
struct ExistingMediatedDevice: Sendable, Hashable {
    /// libvirt's name of it.
    let name: String
    let device: MediatedDevice

    /// `nil` for what is no mediated device of a PCI device.
    init?(_ document: XMLNode) {
        let capability = document.all("capability").first { $0["type"] == "mdev" }
        guard let capability, let type = capability.first("type")?["id"],
            let name = document.first("name")?.text,
            let parent = document.first("parent").flatMap({ PCIDevice.address(nodeDevice: $0.text) }),
            let uuid = capability.first("uuid")?.text ?? Self.uuid(inName: name), isUUID(uuid)
        else { return nil }
        self.name = name
        device = MediatedDevice(parentAddress: parent, type: type, uuid: uuid.lowercased())
    }

    /// Before libvirt 7.3 the name alone tells: `mdev_d069d019_36ea_4111_8f0a_8c9a70e21366`.
    private static func uuid(inName name: String) -> String? {
        guard name.hasPrefix("mdev_") else { return nil }
        return name.dropFirst(5).split(separator: "_").prefix(5).joined(separator: "-")
    }
}

extension MediatedDeviceParent {
    /// A node device as libvirt describes it, with those of `existing` that are its own; `nil` when it is no PCI device
    /// that knows types.
    init?(_ document: XMLNode, existing: [MediatedDevice]) {
        let pci = document.all("capability").first { $0["type"] == "pci" }
        guard let pci, let address = PCIDevice.address(elements: pci),
            let capability = pci.all("capability").first(where: { $0["type"] == "mdev_types" })
        else { return nil }
        let types = capability.all("type").compactMap { type -> TypeOffer? in
            guard let id = type["id"], let interface = type.first("deviceAPI")?.text,
                let available = type.first("availableInstances").flatMap({ UInt32($0.text) })
            else { return nil }
            return TypeOffer(id: id, deviceAPI: interface, availableInstances: Int(available))
        }
        guard !types.isEmpty else { return nil }
        let node = pci.first("numa")?["node"].flatMap { Int($0) }
        self.init(
            address: address, numaNode: node.flatMap { $0 < 0 ? nil : $0 }, types: types,
            devices: existing.filter { $0.parentAddress == address })
    }
}

extension MediatedDevice {
    /// What libvirt is to make.
    var document: XMLNode {
        let parent = "pci_" + parentAddress.split { $0 == ":" || $0 == "." }.joined(separator: "_")
        return XMLNode("device") {
            XMLNode("parent", text: parent)
            XMLNode("capability", ["type": "mdev"]) {
                XMLNode("type", ["id": type])
                XMLNode("uuid", text: uuid)
            }
        }
    }
}

extension PCIDevice {
    /// `pci_0000_81_00_1` is at `0000:81:00.1`.
    static func address(nodeDevice name: String) -> String? {
        let parts = name.split(separator: "_", omittingEmptySubsequences: false)
        guard parts.count == 5, parts[0] == "pci", parts.dropFirst().allSatisfy({ UInt32($0, radix: 16) != nil }) else {
            return nil
        }
        return "\(parts[1]):\(parts[2]):\(parts[3]).\(parts[4])"
    }
}
