import Model
import PCIDevices
import Testing

@Suite("The host's devices that guests may have")
struct PCIInventoryTests {
    /// Two NICs with four virtual functions each, on the cells 0 and 1, and two plain devices of which one is on no cell.
    static let devices: [PCIDevice] = {
        var made: [PCIDevice] = []
        for (bus, node) in [("02", 0), ("81", 1)] {
            made.append(
                PCIDevice(
                    address: "0000:\(bus):00.0", vendorID: "8086", productID: "10c9", kind: .physicalFunction,
                    numaNode: node))
            for function in 0..<4 {
                made.append(
                    PCIDevice(
                        address: "0000:\(bus):10.\(function)", vendorID: "8086", productID: "10ca",
                        kind: .virtualFunction, parentAddress: "0000:\(bus):00.0", numaNode: node))
            }
        }
        made.append(
            PCIDevice(address: "0000:41:00.0", vendorID: "10de", productID: "1eb8", kind: .plain, numaNode: 1))
        made.append(PCIDevice(address: "0000:42:00.0", vendorID: "10de", productID: "1eb8", kind: .plain))
        return made
    }()

    static let aliases = """
        [{"name": "vf", "vendor_id": "8086", "product_id": "10ca"},
         {"name": "pf", "product_id": "10C9", "device_type": "type-PF"},
         {"name": "gpu", "vendor_id": "10de", "numa_policy": "required"}]
        """

    private func inventory() throws -> PCIInventory {
        PCIInventory(devices: Self.devices, aliases: try PCIAlias.list(parsing: Self.aliases))
    }

    private func addresses(
        _ inventory: PCIInventory, _ requests: [PCIRequest], near: Set<Int>? = nil, beside: [PCIDevice] = []
    ) throws -> [String] {
        try inventory.choose(requests, near: near, beside: beside).map(\.address)
    }

    @Test("Devices are given in the order of their addresses, each once")
    func choice() throws {
        let inventory = try inventory()
        let first = try inventory.choose([.init(alias: "vf", count: 2)], near: nil, beside: [])
        #expect(first.map(\.address) == ["0000:02:10.0", "0000:02:10.1"])
        #expect(
            try addresses(inventory, [.init(alias: "vf", count: 1), .init(alias: "gpu", count: 1)], beside: first)
                == ["0000:02:10.2", "0000:41:00.0"])
        #expect(throws: PCIShortage.unknownAlias("tpu")) {
            try inventory.choose([.init(alias: "tpu", count: 1)], near: nil, beside: [])
        }
        #expect(throws: PCIShortage.short(alias: "vf", requested: 9, free: 8, total: 8)) {
            try inventory.choose([.init(alias: "vf", count: 9)], near: nil, beside: [])
        }
    }

    @Test("A physical function excludes its virtual ones, and they exclude it")
    func functions() throws {
        let inventory = try inventory()
        let pf = try inventory.choose([.init(alias: "pf", count: 1)], near: nil, beside: [])
        #expect(pf.map(\.address) == ["0000:02:00.0"])
        #expect(try addresses(inventory, [.init(alias: "vf", count: 1)], beside: pf) == ["0000:81:10.0"])
        let vf = Self.devices.filter { $0.address == "0000:02:10.3" }
        #expect(try addresses(inventory, [.init(alias: "pf", count: 1)], beside: vf) == ["0000:81:00.0"])
        #expect(
            try addresses(inventory, [.init(alias: "pf", count: 1), .init(alias: "vf", count: 4)])
                == ["0000:02:00.0", "0000:81:10.0", "0000:81:10.1", "0000:81:10.2", "0000:81:10.3"])
        #expect(throws: PCIShortage.short(alias: "pf", requested: 2, free: 1, total: 2)) {
            try inventory.choose([.init(alias: "pf", count: 2)], near: nil, beside: vf)
        }
    }

    @Test(
        "How near a device must be",
        arguments: [
            (PCIPolicy.required, 1, ["0000:41:00.0"]), (.legacy, 1, ["0000:41:00.0"]), (.legacy, 0, ["0000:42:00.0"]),
            (.preferred, 0, ["0000:42:00.0"]), (.preferred, 1, ["0000:41:00.0"]), (.required, 0, []),
            (.socket, 1, ["0000:41:00.0"]), (.socket, 2, ["0000:41:00.0"]), (.socket, 0, []),
        ] as [(PCIPolicy, Int, [String])])
    func policies(policy: PCIPolicy, cell: Int, expected: [String]) throws {
        let wanted = [PCIRequest(alias: "gpu", count: 1, policy: policy)]
        let found = try? inventory().choose(wanted, near: [cell], sockets: [0: 0, 1: 1, 2: 1], beside: []).map(
            \.address)
        #expect(found ?? [] == expected)
    }

    @Test("Who prefers nearness gets the others, too; who requires it does not")
    func preferred() throws {
        let inventory = try inventory()
        #expect(
            try addresses(inventory, [.init(alias: "gpu", count: 2, policy: .preferred)], near: [0])
                == ["0000:42:00.0", "0000:41:00.0"])
        #expect(throws: PCIShortage.short(alias: "gpu", requested: 2, free: 1, total: 2)) {
            try inventory.choose([.init(alias: "gpu", count: 2)], near: [1], beside: [])
        }
        #expect(inventory.cells(with: [.init(alias: "gpu", count: 1)], beside: []) == [1])
    }

    @Test("Requests that share devices, and functions that exclude each other, are all had where there is a way")
    func together() throws {
        func device(_ address: String, _ kind: PCIDevice.Kind, of parent: String? = nil) -> PCIDevice {
            PCIDevice(address: address, vendorID: "8086", productID: "1", kind: kind, parentAddress: parent)
        }
        let text = """
            [{"name": "any", "vendor_id": "8086"}, {"name": "plain", "vendor_id": "8086", "device_type": "type-PCI"},
             {"name": "pf", "vendor_id": "8086", "device_type": "type-PF"},
             {"name": "vf", "vendor_id": "8086", "device_type": "type-VF"}]
            """
        let inventory = PCIInventory(
            devices: [
                device("0000:01:00.0", .plain), device("0000:02:00.0", .physicalFunction),
                device("0000:02:10.0", .virtualFunction, of: "0000:02:00.0"),
                device("0000:02:10.1", .virtualFunction, of: "0000:02:00.0"),
                device("0000:03:00.0", .physicalFunction),
                device("0000:03:10.0", .virtualFunction, of: "0000:03:00.0"),
            ], aliases: try PCIAlias.list(parsing: text))
        // The one plain device is left to the request that can have no other.
        #expect(
            try addresses(inventory, [.init(alias: "any", count: 1), .init(alias: "plain", count: 1)])
                == ["0000:02:10.0", "0000:01:00.0"])
        // The first physical function would leave one virtual function only.
        #expect(
            try addresses(inventory, [.init(alias: "pf", count: 1), .init(alias: "vf", count: 2)])
                == ["0000:03:00.0", "0000:02:10.0", "0000:02:10.1"])
        #expect(throws: PCIShortage.self) {
            try inventory.choose([.init(alias: "pf", count: 1), .init(alias: "vf", count: 3)], near: nil, beside: [])
        }
        #expect(throws: PCIShortage.self) {
            try inventory.choose(
                [.init(alias: "any", count: 4), .init(alias: "plain", count: 1)], near: nil, beside: [])
        }
    }

    @Test("Pools count what there is and what is free")
    func pools() throws {
        let inventory = try inventory()
        let taken = try inventory.choose([.init(alias: "vf", count: 1)], near: nil, beside: [])
        let pools = inventory.pools(beside: taken)
        func pool(_ product: String, _ node: Int?) -> [Int] {
            pools.filter { $0.productID == product && $0.numaNode == node }.flatMap { [$0.free, $0.total] }
        }
        #expect(pool("10c9", 0) == [0, 1] && pool("10c9", 1) == [1, 1])
        #expect(pool("10ca", 0) == [3, 4] && pool("10ca", 1) == [4, 4] && pool("1eb8", nil) == [1, 1])
    }

    @Test("Pools say whose physical function shuts which virtual ones out, where guests may have both")
    func exclusion() throws {
        let both = try inventory().pools(beside: [])
        #expect(Set(both.filter { $0.kind != .plain }.map(\.physicalFunction)) == ["0000:02:00.0", "0000:81:00.0"])
        #expect(both.filter { $0.kind == .plain }.allSatisfy { $0.physicalFunction == nil })
        // Of two on one cell each has its own pools, and where guests may have one sort alone there is nothing to tell.
        var near = Self.devices
        for index in near.indices { near[index].numaNode = 0 }
        #expect(PCIInventory(devices: near).pools(beside: []).map(\.total) == [1, 4, 2, 1, 4])
        let virtual = PCIInventory(devices: near.filter { $0.kind != .physicalFunction })
        #expect(virtual.pools(beside: []).map(\.total) == [8, 2])
        #expect(virtual.pools(beside: []).allSatisfy { $0.physicalFunction == nil })
    }

    @Test("A host with very many functions still reports what can be taken")
    func many() throws {
        let devices = (0..<600).flatMap { number -> [PCIDevice] in
            let address = "0000:\(String(number, radix: 16)):00.0"
            return [
                PCIDevice(address: address, vendorID: "8086", productID: "1", kind: .physicalFunction),
                PCIDevice(
                    address: address + "1", vendorID: "8086", productID: "2", kind: .virtualFunction,
                    parentAddress: address),
            ]
        }
        #expect(PCIInventory(devices: devices).pools(beside: []).map(\.total) == [600, 600])
    }

    @Test("However guests come and go, and devices vanish and return, none is two guests'", arguments: 1...20)
    func random(seed: UInt64) throws {
        var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
        func number(_ limit: Int) -> Int {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return Int(state % UInt64(limit))
        }
        let aliases = try PCIAlias.list(parsing: Self.aliases)
        var inventory = PCIInventory(devices: Self.devices, aliases: aliases)
        var held: [Int: [PCIDevice]] = [:]
        for step in 0..<300 {
            switch number(5) {
            case 0: held[held.keys.sorted().dropFirst(number(max(1, held.count))).first ?? -1] = nil
            case 1:
                let gone = Set((0..<number(4)).map { _ in Self.devices[number(Self.devices.count)].address })
                inventory = PCIInventory(
                    devices: Self.devices.filter { !gone.contains($0.address) }, aliases: aliases)
            default:
                let request = PCIRequest(alias: ["vf", "pf", "gpu"][number(3)], count: 1 + number(3))
                let cells: Set<Int>? = [nil, [0], [1], [0, 1]][number(4)]
                let taken = held.values.flatMap(\.self)
                do {
                    held[step] = try inventory.choose([request], near: cells, beside: taken)
                } catch {
                    guard case .short(_, let wanted, _, let total) = error else {
                        Issue.record("the alias is known")
                        continue
                    }
                    #expect(wanted == request.count && total >= 0)
                }
            }
            let all = held.values.flatMap(\.self)
            #expect(Set(all.map(\.address)).count == all.count)
            let physical = Set(all.filter { $0.kind == .physicalFunction }.map(\.address))
            #expect(all.allSatisfy { !physical.contains($0.parentAddress ?? "") })
        }
    }
}

@Suite("What operators write of devices")
struct PCITextTests {
    @Test(
        "Which devices a spec takes",
        arguments: [
            (#"{"vendor_id": "8086", "product_id": "10ca"}"#, 8), (#"{"address": "*:81:*.*"}"#, 5),
            (#"{"address": "0000:02:10.1"}"#, 1), (#"{"address": "02:10.*"}"#, 4), (#"{"vendor_id": "10DE"}"#, 2),
            (#"[{"address": "0:2:0.0"}, {"product_id": "1eb8"}]"#, 3), ("", 0), ("[]", 0),
        ])
    func specs(text: String, count: Int) throws {
        let specs = try DeviceSpec.list(parsing: text)
        #expect(PCIInventoryTests.devices.filter { device in specs.contains { $0.matches(device) } }.count == count)
    }

    @Test(
        "What is wrong is said",
        arguments: [
            ("{", "no JSON"), ("7", "a JSON object"), ("{}", "vendor_id, product_id or address"),
            (#"{"vendor_id": "80861"}"#, "four hexadecimal digits"), (#"{"vendor_id": 8086}"#, "a text is wanted"),
            (#"{"address": "0000:81"}"#, "is no address"), (#"{"address": "0000:zz:00.0"}"#, "is no address"),
            (#"{"vendor_id": "8086", "devname": "eth0"}"#, "\"devname\" is not known"),
        ])
    func wrongSpecs(text: String, reason: String) {
        let error = #expect(throws: PCIError.self) { try DeviceSpec.list(parsing: text) }
        #expect(error?.description.contains(reason) == true)
    }

    @Test(
        "Likewise of aliases",
        arguments: [
            (#"{"vendor_id": "8086"}"#, "name:"), (#"{"name": "a b", "vendor_id": "8086"}"#, "name:"),
            (#"{"name": "a"}"#, "vendor_id or product_id"),
            (#"{"name": "a", "vendor_id": "8086", "device_type": "x"}"#, "device_type"),
            (#"{"name": "a", "vendor_id": "8086", "numa_policy": "nearby"}"#, "numa_policy"),
            (
                #"[{"name": "a", "vendor_id": "8086"}, {"name": "a", "vendor_id": "10de", "numa_policy": "required"}]"#,
                "the same each time"
            ),
        ])
    func wrongAliases(text: String, reason: String) {
        let error = #expect(throws: PCIError.self) { try PCIAlias.list(parsing: text) }
        #expect(error?.description.contains(reason) == true)
    }

    @Test("The same name again is an alternative")
    func alternatives() throws {
        let text = #"[{"name": "any", "product_id": "10ca"}, {"name": "any", "product_id": "1eb8"}]"#
        let inventory = PCIInventory(
            devices: PCIInventoryTests.devices, aliases: try PCIAlias.list(parsing: text))
        #expect(try inventory.choose([.init(alias: "any", count: 10)], near: nil, beside: []).count == 10)
    }
}
