import Foundation
import Model
import Testing

@testable import Scheduling

/// The schemas as the catalog has them.
private enum Catalog {
    static func schemas() throws -> [String: JSON] {
        let page = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "Sources/Model/Apus.docc/SchedulerFiles.md")
        let text = try String(contentsOf: page, encoding: .utf8)
        var found: [String: JSON] = [:]
        for part in text.components(separatedBy: "```json\n").dropFirst() {
            let body = part.components(separatedBy: "\n```")[0]
            let schema = try JSON(parsing: Array(body.utf8))
            found[schema["title"]?.text ?? ""] = schema
        }
        return found
    }

    /// What is wrong with a value by its schema: types, members that are none, members that are wanted.
    static func faults(_ value: JSON, _ schema: JSON, _ root: JSON, at place: String = "") -> [String] {
        if let path = schema["$ref"]?.text, let name = path.split(separator: "/").last,
            let target = root["$defs"]?[String(name)]
        {
            return faults(value, target, root, at: place)
        }
        if let choices = schema["enum"]?.list { return choices.contains(value) ? [] : ["\(place): not one of them"] }
        var found: [String] = []
        switch schema["type"]?.text {
        case "object":
            guard let members = value.members else { return ["\(place): no object"] }
            let known = schema["properties"]?.members ?? [:]
            for name in schema["required"]?.list?.compactMap(\.text) ?? [] where members[name] == nil {
                found.append("\(place).\(name): missing")
            }
            for (name, member) in members {
                if let own = known[name] {
                    found += faults(member, own, root, at: "\(place).\(name)")
                } else if let other = schema["additionalProperties"], other != false {
                    found += faults(member, other, root, at: "\(place).\(name)")
                } else {
                    found.append("\(place).\(name): unknown")
                }
            }
        case "array":
            guard let list = value.list else { return ["\(place): no list"] }
            for element in list { found += faults(element, schema["items"] ?? [:], root, at: place + "[]") }
        case "string": if value.text == nil { found.append("\(place): no text") }
        case "boolean": if value.boolean == nil { found.append("\(place): no flag") }
        case "integer":
            guard let number = value.int else { return ["\(place): no whole number"] }
            if let least = schema["minimum"]?.int, number < least { found.append("\(place): too small") }
            if let most = schema["maximum"]?.int, number > most { found.append("\(place): too large") }
        case "number": if value.double == nil { found.append("\(place): no number") }
        default: break
        }
        return found
    }

    /// Every member that a schema knows, as a path.
    static func paths(_ schema: JSON, _ root: JSON, at place: String = "") -> Set<String> {
        if let path = schema["$ref"]?.text, let name = path.split(separator: "/").last,
            let target = root["$defs"]?[String(name)]
        {
            return paths(target, root, at: place)
        }
        var found: Set<String> = []
        for (name, member) in schema["properties"]?.members ?? [:] {
            found.insert("\(place).\(name)")
            found.formUnion(paths(member, root, at: "\(place).\(name)"))
        }
        if let items = schema["items"] { found.formUnion(paths(items, root, at: place)) }
        return found
    }

    /// Every member that a value has, in the places that the schema names.
    static func paths(of value: JSON, at place: String = "") -> Set<String> {
        var found: Set<String> = []
        for (name, member) in value.members ?? [:] {
            found.insert("\(place).\(name)")
            found.formUnion(paths(of: member, at: "\(place).\(name)"))
        }
        for element in value.list ?? [] { found.formUnion(paths(of: element, at: place)) }
        return found
    }
}

@Suite("Files of hosts, requests and traces")
struct DocumentTests {
    /// A host with everything that a host can have.
    static var full: HostState {
        var host = HostState(
            name: HostName("kvm1"), availabilityZone: "east",
            total: Resources(vcpus: 16, memoryMiB: 16_384, diskGiB: 200),
            reserved: Resources(vcpus: 0, memoryMiB: 512, diskGiB: 0),
            used: Resources(vcpus: 3, memoryMiB: 1_536, diskGiB: 20),
            ratios: AllocationRatios(cpu: 2, memory: 1.5, disk: 1), diskAvailableLeastGiB: 50, isDisabled: true,
            isUp: false)
        host.node = "kvm1.example"
        (host.guestOverheadMiB, host.instanceCount, host.ioOperations, host.failedBuilds) = (64, 3, 1, 2)
        (host.hypervisorType, host.hypervisorVersion, host.address) = ("KVM", 7_002_000, "10.0.0.1")
        (host.architecture, host.cpuModel, host.cpuVendor) = ("x86_64", "EPYC", "AMD")
        (host.cpuFeatures, host.traits) = (["aes"], ["HW_CPU_X86_AESNI"])
        host.trustLevel = "trusted"
        host.cpuTopology = CPUTopology(cells: 1, sockets: 1, cores: 8, threads: 2)
        host.metrics = ["cpu.percent": 0.25]
        host.cells = [
            HostCellReport(
                id: 0, memoryMiB: 16_384, memoryUsedMiB: 100, sharedCPUs: CPUSet([0, 1]), sharedVCPUs: 1,
                dedicatedCPUs: CPUSet([2, 3]), takenCPUs: CPUSet([2]), cores: [CPUSet([0, 1]), CPUSet([2, 3])],
                pages: [.init(sizeKiB: 4, total: 4_000_000, reserved: 10, used: 20)], socket: 0)
        ]
        host.pciPools = [
            PCIPool(
                vendorID: "8086", productID: "10ed", kind: .virtualFunction, numaNode: 0, total: 4, free: 3,
                aliases: ["nic": "required"], physicalFunction: "0000:81:00.0")
        ]
        host.aggregates = [AggregateFacts(name: "fast", metadata: ["availability_zone": "east", "ssd": "true"])]
        return host
    }

    @Test("What is written is what is read, and what the catalog's schema says, member for member")
    func fleet() throws {
        var document = FleetDocument(hosts: [Self.full])
        document.options = ["filter_scheduler.host_subset_size": "2"]
        let again = try FleetDocument(document.json)
        #expect(again.hosts == [Self.full])
        #expect(again.options == document.options)
        let schema = try #require(try Catalog.schemas()["HOSTS.json"])
        #expect(Catalog.faults(document.json, schema, schema) == [])
        let free = Set([
            ".options.filter_scheduler.host_subset_size", ".aggregates.metadata.availability_zone",
            ".aggregates.metadata.ssd", ".hosts.pci_pools.aliases.nic",
        ])
        #expect(Catalog.paths(of: document.json).subtracting(free) == Catalog.paths(schema, schema))
    }

    private static let request = """
        {"flavor": {"id": "1", "name": "f", "vcpus": 2, "memory_mib": 512, "root_gib": 1, "ephemeral_gib": 1,
          "swap_mib": 1024, "extra_specs": {"trait:X": "required"}},
         "resources": {"vcpus": 3, "memory_mib": 600, "disk_gib": 4}, "instances": ["a", "b"], "count": 3,
         "project_id": "p", "availability_zone": "east", "ignored_hosts": ["h9"],
         "scheduler_hints": {"query": "[]", "same_host": ["a"]}, "alternates": 1, "image_id": "i",
         "image_properties": {"hw_architecture": "x86_64"},
         "group": {"id": "g", "policy": "anti-affinity", "max_servers_per_host": 2, "members": {"h1": 1}},
         "forced_host": "h1", "forced_node": "n1", "requested_host": "h2", "requested_node": "n2",
         "tried_hosts": ["h3"], "same_hosts": ["h4"], "different_hosts": ["h5"], "other_flavor_hosts": ["h6"],
         "image_property_counts": {"h1": {"os_distro=debian": 2}}}
        """

    @Test("A request with all of its members, as the catalog's schema has them")
    func request() throws {
        let json = try JSON(parsing: Array(Self.request.utf8))
        let request = try PlacementRequest(document: json)
        #expect(request.instances.map(\.rawValue) == ["a", "b", "instance-3"])
        #expect(request.resources == Resources(vcpus: 3, memoryMiB: 600, diskGiB: 4))
        #expect(request.flavor?.swapMiB == 1_024 && request.flavor?.extraSpecs == ["trait:X": "required"])
        #expect(request.group?.members == [HostName("h1"): 1] && request.group?.maxServersPerHost == 2)
        #expect(request.schedulerHints == ["query": ["[]"], "same_host": ["a"]])
        #expect(request.imagePropertyCounts == [HostName("h1"): ["os_distro=debian": 2]])
        #expect(request.forcedNode == "n1" && request.requestedHost == HostName("h2") && request.alternates == 1)
        let schema = try #require(try Catalog.schemas()["REQUEST.json"])
        #expect(Catalog.faults(json, schema, schema) == [])
        #expect(Catalog.paths(schema, schema).subtracting(Catalog.paths(of: json)) == [])
        // What is written is what is read.
        #expect(Catalog.faults(request.document, schema, schema) == [])
        #expect(try PlacementRequest(document: request.document) == request)
        // Without what it does not need.
        let plain = try PlacementRequest(document: ["flavor": ["memory_mib": 1_024, "root_gib": 3, "swap_mib": 1]])
        #expect(plain.resources == Resources(vcpus: 1, memoryMiB: 1_024, diskGiB: 4))
        #expect(plain.instances.count == 1 && plain.alternates == 2)
    }

    @Test(
        "What is wrong is named with its place",
        arguments: [
            (#"[]"#, ": an object is wanted"), (#"{}"#, "hosts: it is wanted"),
            (#"{"hosts": {}}"#, "hosts: a list is wanted"), (#"{"hosts": [5]}"#, "hosts[0]: an object is wanted"),
            (#"{"hosts": [], "host": 1}"#, "host: there is no such member"),
            (#"{"hosts": [{"total": {}}]}"#, "hosts[0].host: it is wanted"),
            (#"{"hosts": [{"host": "a"}]}"#, "hosts[0].total: it is wanted"),
            (
                #"{"hosts": [{"host": "a", "total": {"vcpus": 1.5}}]}"#,
                "hosts[0].total.vcpus: a whole number from -1000000000000 to 1000000000000 is wanted"
            ),
            (
                #"{"hosts": [{"host": "a", "total": {"vcpus": 9223372036854775807}}]}"#,
                "hosts[0].total.vcpus: a whole number from -1000000000000 to 1000000000000 is wanted"
            ),
            (
                #"{"hosts": [{"host": "a", "total": {}, "memry": 1}]}"#, "hosts[0].memry: there is no such member"
            ),
            (
                #"{"hosts": [{"host": "a", "total": {}}, {"host": "a", "total": {}}]}"#,
                "hosts[1].host: there is another a"
            ),
            (
                #"{"hosts": [{"host": "a", "total": {}, "cells": [{"id": 0, "memory_mib": 1, "shared_cpus": "x"}]}]}"#,
                "hosts[0].cells[0].shared_cpus: CPUs like 0-3,8 is wanted"
            ),
            (
                #"{"hosts": [{"host": "a", "total": {}, "metrics": [{"name": "m"}]}]}"#,
                "hosts[0].metrics[0].value: it is wanted"
            ),
        ])
    func wrong(text: String, message: String) throws {
        let json = try JSON(parsing: Array(text.utf8))
        do throws(DocumentError) {
            _ = try FleetDocument(json)
            Issue.record("it was read")
        } catch {
            #expect(error.description == message || ": " + error.description == message)
        }
    }

    @Test("Lines of a trace", arguments: ["5", "{}", #"{"request": {}}"#, #"{"delete": 1}"#, #"{"other": 1}"#])
    func lines(text: String) throws {
        let json = try JSON(parsing: Array(text.utf8))
        #expect(throws: DocumentError.self) { try TraceEvent(json, at: "line 1") }
    }

    @Test("A host is explained filter by filter, and by what each weigher gives it")
    func explanation() throws {
        var scheduler = try FilterScheduler(SchedulingOptions())
        for (name, used, isDisabled) in [("a", 1_024, false), ("b", 4_096, false), ("c", 8_000, true)] {
            scheduler.update(
                HostState(
                    name: HostName(name), total: Resources(vcpus: 8, memoryMiB: 8_192, diskGiB: 100),
                    used: Resources(vcpus: 0, memoryMiB: used, diskGiB: 0), isDisabled: isDisabled))
        }
        let request = try PlacementRequest(document: ["flavor": ["memory_mib": 2_048]])
        let found = scheduler.explanation(of: request)
        #expect(found.order == [HostName("a"), HostName("b")] && found.refusal == nil)
        let refused = found.hosts[2].verdicts.filter { $0.rejection != nil }
        #expect(refused.map(\.filter) == ["ComputeFilter", "RamFilter"])
        #expect(refused.last?.rejection?.shortage == 1_856)
        let memory = found.hosts.prefix(2).compactMap { $0.weights.first { $0.weigher == "RAMWeigher" } }
        #expect(memory.map(\.raw) == [7_168, 4_096] && memory.map(\.normalized) == [1, 4_096.0 / 7_168])
        #expect(found.hosts[2].weight == nil && found.hosts[2].weights.isEmpty)
        #expect(found.json["hosts"]?[2]?["verdicts"]?[3]?["short"] == 1_856)
        #expect(scheduler.explanation(of: try PlacementRequest(document: ["flavor": ["vcpus": 99]])).refusal != nil)
    }

    @Test("A server that is taken out leaves its host's amounts; what is certain of the host stays taken")
    func absence() throws {
        var scheduler = try FilterScheduler(SchedulingOptions())
        scheduler.update(Self.full)
        let request = try PlacementRequest(document: [
            "flavor": [
                "vcpus": 2, "memory_mib": 1_024, "root_gib": 5, "extra_specs": ["pci_passthrough:alias": "nic:1"],
            ]
        ])
        scheduler.takeOut(request, from: HostName("kvm1"))
        scheduler.takeOut(request, from: HostName("nobody"))
        let host = try #require(scheduler.hosts.first)
        #expect(host.used == Resources(vcpus: 1, memoryMiB: 448, diskGiB: 15) && host.instanceCount == 2)
        #expect(host.pciPools == Self.full.pciPools && host.cells == Self.full.cells)
        #expect(request.asksForHardware)
        #expect(try !PlacementRequest(document: ["flavor": [:]]).asksForHardware)
    }

    @Test("What a replay places and deletes leaves the hosts as they were, cells and devices too", arguments: 1...20)
    func replay(seed: UInt64) throws {
        var scheduler = try FilterScheduler(SchedulingOptions())
        var host = Self.full
        (host.isUp, host.isDisabled) = (true, false)
        for name in ["a", "b", "c"] {
            host.name = HostName(name)
            scheduler.update(host)
        }
        let before = scheduler.hosts
        var replay = Replay(scheduler)
        var generator = SystemRandomNumberGenerator()
        let specs: [JSON] = [
            [:], ["hw:cpu_policy": "dedicated"], ["hw:mem_page_size": "small"], ["pci_passthrough:alias": "nic:1"],
        ]
        var ids: [String] = []
        for number in 0..<40 {
            let id = "i\(number)"
            let request: JSON = [
                "instances": [.string(id)],
                "flavor": ["memory_mib": 256, "extra_specs": specs[Int.random(in: 0...3, using: &generator)]],
            ]
            let decision = replay.run(
                try TraceEvent(["request": request], at: ""), using: &generator)
            if case .placed = decision { ids.append(id) }
        }
        #expect(replay.requests == 40 && replay.placedInstances == ids.count && !ids.isEmpty)
        #expect(replay.refusedRequests == 40 - ids.count)
        for id in ids.shuffled() { replay.run(.delete(InstanceID(id)), using: &generator) }
        replay.run(.delete(InstanceID("nobody")), using: &generator)
        #expect(replay.deletedInstances == ids.count && replay.missedDeletions == 1)
        for (was, host) in zip(before, replay.scheduler.hosts) {
            var host = host
            host.measuredAt = was.measuredAt
            #expect(host == was)
        }
    }
}
