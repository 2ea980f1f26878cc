import Model
import Testing

@testable import Scheduling

private func host(_ change: (inout HostState) -> Void = { _ in }) -> HostState {
    var made = HostState(name: HostName("h"), total: Resources(vcpus: 8, memoryMiB: 8_192, diskGiB: 100))
    (made.architecture, made.hypervisorType, made.hypervisorVersion) = ("x86_64", "QEMU", 7_002_000)
    (made.address, made.cpuFeatures, made.cpuModel) = ("10.1.2.3", ["aes", "vmx"], "EPYC")
    change(&made)
    return made
}

private func request(_ change: (inout PlacementRequest) -> Void = { _ in }) -> PlacementRequest {
    var made = PlacementRequest(
        instances: [InstanceID("i")], resources: Resources(vcpus: 1, memoryMiB: 1_024, diskGiB: 1),
        projectID: ProjectID("p"), alternates: 0)
    change(&made)
    return made
}

private func flavor(_ specs: [String: String], name: String = "small") -> Flavor {
    Flavor(id: FlavorID("1"), name: name, vcpus: 1, memoryMiB: 1_024, rootGiB: 1, extraSpecs: specs)
}

private func aggregates(_ metadata: [String: String]...) -> [AggregateFacts] {
    metadata.map { AggregateFacts(name: "a", metadata: $0) }
}

@Suite("What each filter lets pass")
struct FilterTableTests {
    @Test(
        "Operators of extra specs",
        arguments: [
            ("5", "5", true), ("5", "6", false), ("= 4", "5", true), ("=  5", "5", true), ("= 5", "4", false),
            (">= 5", "5", true), (">= 5", "4.9", false), ("<= 5", "5", true), ("<= 5", "6", false),
            ("== 5", "5.0", true), ("!= 5", "6", true), ("!= 5", "5", false), ("s== a", "a", true),
            ("s!= a", "b", true),
            ("s< b", "a", true), ("s< a", "a", false), ("s<= a", "a", true), ("s> a", "b", true), ("s>= a", "a", true),
            ("<in> ae", "aes vmx", true), ("<in> sse", "aes vmx", false), ("<in> aes sse", "aes", true),
            ("<all-in> aes vmx", "['aes', 'vmx']", true), ("<all-in> aes sse", "['aes', 'vmx']", false),
            ("<or> a <or> b", "b", true), ("<or> a <or> b", "c", false), ("<or> a b <or> c", "b", false),
            (">=", "5", false), ("<or>", "a", false), ("<in>", "a", false), (">= x", "5", false),
            ("<= 5", "many", false), ("<range-in> [ 1 5 ]", "3", false),
            ("<range-in> [ 1 5 ]", "<range-in> [ 1 5 ]", true),
        ])
    func operators(demand: String, value: String, passes: Bool) {
        #expect(ExtraSpecOperator(demand).admits(value) == passes)
        #expect(!ExtraSpecOperator(demand).admits(nil))
    }

    @Test(
        "Capabilities of the host",
        arguments: [
            (["capabilities:cpu_info:arch": "x86_64"], true), (["capabilities:cpu_info:arch": "arm"], false),
            (["capabilities:cpu_info:features": "<in> aes"], true),
            (["capabilities:cpu_info:features": "<all-in> aes avx"], false),
            (["capabilities:cpu_info:topology:cores": ">= 1"], true), (["capabilities:no:such": "1"], false),
            (["capabilities:hypervisor_type": "s== QEMU"], true), (["free_ram_mb": ">= 8192"], true),
            (["free_ram_mb": ">= 8193"], false), (["unknown_key": "x"], true),
            (["other:free_ram_mb": ">= 99999"], true),
            (["capabilities:cpu_info:vendor": "AMD"], false), ([:], true), (["capabilities:": "1"], false),
        ])
    func capabilities(specs: [String: String], passes: Bool) {
        let rejection = ComputeCapabilitiesFilter().reject(host(), for: request { $0.flavor = flavor(specs) })
        #expect((rejection == nil) == passes)
    }

    @Test(
        "Extra specs that aggregates must have",
        arguments: [
            ([:], [["ssd": "true"]], true), (["aggregate_instance_extra_specs:ssd": "true"], [["ssd": "true"]], true),
            (["ssd": "true"], [["ssd": "false, true"]], true),
            (["ssd": "true"], [["ssd": "false"], ["ssd": "true"]], true),
            (["ssd": "true"], [], false), (["ssd": "true"], [["ssd": "false"]], false),
            (["hw:ssd": "true"], [], true), (["n": ">= 3"], [["n": "2,3"]], true), (["n": ">= 3"], [["n": "x"]], false),
        ] as [([String: String], [[String: String]], Bool)])
    func aggregateSpecs(specs: [String: String], metadata: [[String: String]], passes: Bool) {
        let subject = host { $0.aggregates = metadata.map { AggregateFacts(name: "a", metadata: $0) } }
        let rejection = AggregateInstanceExtraSpecsFilter().reject(subject, for: request { $0.flavor = flavor(specs) })
        #expect((rejection == nil) == passes)
    }

    @Test(
        "Properties of images",
        arguments: [
            ([:], true), (["hw_architecture": "amd64"], true), (["hw_architecture": "aarch64"], false),
            (["img_hv_type": "qemu"], true), (["img_hv_type": "kvm"], true), (["img_hv_type": "xen"], false),
            (["hw_vm_mode": "hvm"], true), (["img_hv_requested_version": ">=8"], true),
            (["hw_architecture": "X64"], true), (["hw_architecture": "x86"], false), (["architecture": "AMD64"], true),
            (["hw_vm_mode": "hv"], true), (["vm_mode": "HV"], true), (["vm_mode": "pv"], false),
            (["hypervisor_type": "KVM"], true), (["img_hv_type": "xapi"], false),
            (["architecture": "aarch64", "hw_architecture": "amd64"], true),
            (["hypervisor_version_requires": ">=8", "hypervisor_type": "qemu"], false),
            (["hw_vm_mode": "xen"], false), (["img_hv_requested_version": ">=7.0,<8", "img_hv_type": "qemu"], true),
            (["img_hv_requested_version": ">=8", "img_hv_type": "qemu"], false),
            (["img_hv_requested_version": "new", "img_hv_type": "qemu"], false),
            (["img_hv_requested_version": "!=7.2.0", "img_hv_type": "qemu"], false),
            (["img_hv_requested_version": ">=7.x", "img_hv_type": "qemu"], false),
        ])
    func images(properties: [String: String], passes: Bool) {
        let rejection = ImagePropertiesFilter().reject(host(), for: request { $0.imageProperties = properties })
        #expect((rejection == nil) == passes)
    }

    @Test(
        "Traits",
        arguments: [
            (["trait:HW_CPU_X86_AVX": "required"], [:], true), (["trait:HW_CPU_X86_AVX512F": "required"], [:], false),
            (["trait:HW_CPU_X86_AVX": "forbidden"], [:], false), (["trait_A:CUSTOM_X": "forbidden"], [:], true),
            (["trait:HW_CPU_X86_AVX": "perhaps"], [:], false), ([:], ["trait:CUSTOM_X": "required"], false),
            ([:], ["trait:HW_CPU_X86_AVX": "required"], true), ([:], [:], true),
        ])
    func traits(specs: [String: String], properties: [String: String], passes: Bool) {
        let asked = request {
            ($0.flavor, $0.imageProperties) = (flavor(specs), properties)
        }
        #expect((TraitsFilter().reject(host { $0.traits = ["HW_CPU_X86_AVX"] }, for: asked) == nil) == passes)
    }

    @Test(
        "Hosts that are attested as the flavor wants",
        arguments: [
            ("trusted", "trusted", true), ("trusted", "untrusted", false), ("trusted", nil, false),
            ("trusted", "Trusted", false), ("untrusted", "untrusted", true), ("unknown", nil, true),
            (nil, nil, true), (nil, "untrusted", true),
        ] as [(String?, String?, Bool)])
    func trusted(wanted: String?, level: String?, passes: Bool) {
        let asked = request { $0.flavor = flavor(wanted.map { ["trust:trusted_host": $0] } ?? [:]) }
        let filter = TrustedFilter()
        #expect((filter.reject(host { $0.trustLevel = level }, for: asked) == nil) == passes)
        #expect(filter.isNeutral(for: asked) == (wanted == nil))
    }

    @Test("Images without an architecture have the configured one; hosts with KVM run what is for QEMU, too")
    func defaults() {
        let filter = ImagePropertiesFilter(defaultArchitecture: "aarch64")
        #expect(filter.reject(host(), for: request { $0.imageProperties = [:] }) != nil)
        #expect(filter.reject(host { $0.architecture = "arm64" }, for: request { $0.imageProperties = [:] }) == nil)
        for name in ["i386", "i486", "i586", "x86_32", "x86", "I686"] {
            let old = request { $0.imageProperties = ["hw_architecture": name] }
            #expect(ImagePropertiesFilter().reject(host { $0.architecture = "i686" }, for: old) == nil)
        }
        let xen = request { $0.imageProperties = ["img_hv_type": "xapi"] }
        #expect(ImagePropertiesFilter().reject(host { $0.hypervisorType = "Xen" }, for: xen) == nil)
        let qemu = request { $0.imageProperties = ["img_hv_type": "qemu"] }
        #expect(ImagePropertiesFilter().reject(host { $0.hypervisorType = "KVM" }, for: qemu) == nil)
    }

    @Test(
        "Aggregates kept for images, projects and flavors",
        arguments: [
            ("AggregateImagePropertiesIsolation", [["os_distro": "debian"]], true),
            ("AggregateImagePropertiesIsolation", [["os_distro": "windows"]], false),
            ("AggregateImagePropertiesIsolation", [["os_distro": "windows"], ["os_distro": "a, debian"]], true),
            ("AggregateImagePropertiesIsolation", [["os_type": "windows"]], true),
            ("AggregateMultiTenancyIsolation", [[:]], true),
            ("AggregateMultiTenancyIsolation", [["filter_tenant_id": "q,p"]], true),
            ("AggregateMultiTenancyIsolation", [["filter_tenant_id": "q"], ["filter_tenant_id2": "p"]], true),
            ("AggregateMultiTenancyIsolation", [["filter_tenant_id": "q"]], false),
            ("AggregateTypeAffinityFilter", [[:]], true),
            ("AggregateTypeAffinityFilter", [["instance_type": "large, small"]], true),
            ("AggregateTypeAffinityFilter", [["instance_type": "large"]], false),
        ])
    func isolation(name: String, metadata: [[String: String]], passes: Bool) throws {
        var options = SchedulingOptions()
        options.enabledFilters = [name]
        let filter = try #require(try FilterCatalog.filters(options).first)
        #expect(filter.name == name)
        let subject = host { $0.aggregates = metadata.map { AggregateFacts(name: "a", metadata: $0) } }
        let asked = request {
            $0.imageProperties = ["os_distro": "debian"]
            $0.flavor = flavor([:])
        }
        #expect((filter.reject(subject, for: asked) == nil) == passes)
    }

    @Test(
        "An aggregate's values and an image's are the same in whatever form",
        arguments: [
            (["hw_qemu_guest_agent": "yes"], ["hw_qemu_guest_agent": "True"], true),
            (["hw_qemu_guest_agent": "yes"], ["hw_qemu_guest_agent": "1"], true),
            (["hw_qemu_guest_agent": "yes"], ["hw_qemu_guest_agent": "False, maybe"], false),
            (["hw_architecture": "amd64"], ["hw_architecture": "aarch64, x86_64"], true),
            (["architecture": "i386"], ["hw_architecture": "i686"], true),
            (["hw_architecture": "i386"], ["architecture": "x86_64"], false),
            (["hypervisor_type": "KVM"], ["img_hv_type": "kvm"], true),
            (["hw_numa_nodes": "02"], ["hw_numa_nodes": "2"], true),
            (["os_distro": "Yes"], ["os_distro": "True"], false),
            (["hw_qemu_guest_agent": "maybe"], ["hw_qemu_guest_agent": "maybe"], true),
        ])
    func forms(properties: [String: String], metadata: [String: String], passes: Bool) {
        let filter = AggregateImagePropertiesIsolation(namespace: nil)
        let asked = request { $0.imageProperties = properties }
        #expect((filter.reject(host { $0.aggregates = aggregates(metadata) }, for: asked) == nil) == passes)
    }

    @Test("Of a namespace only its keys are looked at")
    func namespace() {
        let filter = AggregateImagePropertiesIsolation(namespace: "os", separator: "_")
        let asked = request { $0.imageProperties = ["os_distro": "debian", "hw_x": "1"] }
        #expect(filter.reject(host { $0.aggregates = aggregates(["hw_x": "2"]) }, for: asked) == nil)
        #expect(filter.reject(host { $0.aggregates = aggregates(["os_distro": "x"]) }, for: asked) != nil)
    }

    @Test("Ratios and limits of aggregates: the least counts, what is no number does not")
    func aggregateLimits() {
        let large = request { $0.resources = Resources(vcpus: 8, memoryMiB: 8_192, diskGiB: 100) }
        func rejects(_ filter: any HostFilter, _ metadata: [String: String]...) -> Bool {
            filter.reject(
                host {
                    $0.aggregates = metadata.map { AggregateFacts(name: "a", metadata: $0) }
                    ($0.instanceCount, $0.ioOperations) = (5, 5)
                }, for: large) != nil
        }
        #expect(!rejects(CoreFilter(readsAggregates: true), ["cpu_allocation_ratio": "1.0"]))
        #expect(
            rejects(CoreFilter(readsAggregates: true), ["cpu_allocation_ratio": "4"], ["cpu_allocation_ratio": "0.9"]))
        #expect(!rejects(CoreFilter(), ["cpu_allocation_ratio": "0.5"]))
        #expect(rejects(RamFilter(readsAggregates: true), ["ram_allocation_ratio": "0.9"]))
        #expect(!rejects(RamFilter(readsAggregates: true), ["ram_allocation_ratio": "much"]))
        #expect(rejects(DiskFilter(readsAggregates: true), ["disk_allocation_ratio": "0.5"]))
        #expect(rejects(NumInstancesFilter(limit: 50, readsAggregates: true), ["max_instances_per_host": "5"]))
        #expect(!rejects(NumInstancesFilter(limit: 50, readsAggregates: true), ["max_instances_per_host": "6"]))
        #expect(rejects(NumInstancesFilter(limit: 5)) && !rejects(NumInstancesFilter(limit: 6)))
        #expect(rejects(IoOpsFilter(limit: 8, readsAggregates: true), ["max_io_ops_per_host": "5"]))
        #expect(rejects(IoOpsFilter(limit: 5)) && !rejects(IoOpsFilter(limit: 6)))
    }

    @Test("Exact filters want exactly what is free")
    func exact() {
        for (filter, resources) in [
            (ExactFilter(.cores), Resources(vcpus: 8, memoryMiB: 1, diskGiB: 1)),
            (ExactFilter(.memory), Resources(vcpus: 1, memoryMiB: 8_192, diskGiB: 1)),
            (ExactFilter(.disk), Resources(vcpus: 1, memoryMiB: 1, diskGiB: 100)),
        ] {
            #expect(filter.reject(host(), for: request { $0.resources = resources }) == nil)
            #expect(filter.reject(host(), for: request()) != nil)
        }
        #expect(ExactFilter(.cores).reject(host { $0.total.vcpus = 0 }, for: request { $0.resources.vcpus = 0 }) != nil)
    }

    @Test(
        "Isolated hosts and images",
        arguments: [
            ([], true, [true, false]), ([], false, [true, true]), (["img"], true, [false, true]),
            (["img"], false, [false, true]),
        ] as [(Set<String>, Bool, [Bool])])
    func isolated(images: Set<String>, restricts: Bool, expected: [Bool]) {
        // The isolated image on a free host, and on an isolated one.
        let filter = IsolatedHostsFilter(images: images, hosts: [HostName("own")], isRestricting: restricts)
        let asked = request { $0.imageID = ImageID("img") }
        let passes = ["h", "own"].map { name in filter.reject(host { $0.name = HostName(name) }, for: asked) == nil }
        #expect(passes == expected)
        // One that boots from a volume has no isolated image.
        let plain = filter.reject(host { $0.name = HostName("own") }, for: request()) == nil
        #expect(plain == !restricts)
    }

    @Test(
        "Queries",
        arguments: [
            (#"["=", "$free_ram_mb", 8192]"#, true), (#"[">=", "$free_ram_mb", 8193]"#, false),
            (#"["<", "$vcpus_used", 1, 2]"#, true), (#"["<", "$vcpus_used", 1, 0]"#, false), (#"["="]"#, false),
            (#"["=", "$host"]"#, false), (#"["in", "$host", "a", "h"]"#, true), (#"["in", "$host", "a"]"#, false),
            (#"["and", [">=", "$free_ram_mb", 1], [">=", "$free_disk_mb", 1]]"#, true),
            (#"["or", ["=", "$host", "x"], ["=", "$host", "h"]]"#, true), (#"["not", ["=", "$host", "h"]]"#, false),
            (#"["not", ["=", "$host", "x"]]"#, true), (#"["and", ["not", ["=", "$host", "h"]]]"#, true),
            (#"["=", "$no_such", 1]"#, false), (#"["=", "$cpu_info.arch", "x86_64"]"#, true), ("[]", true), ("", true),
            (#"["like", "$host", "h"]"#, false), ("{", false), ("5", false), (#""a""#, false),
            (#"["not", ["<", "$host", 5]]"#, false),
            (#"["not", ["=", "$host", 5]]"#, true), (#"["in", "$host", 5, "h"]"#, true), (#"["<", "$host", 5]"#, false),
            (#"["=", {"a": 1}, 1]"#, false),
        ])
    func queries(text: String, passes: Bool) {
        let rejection = JsonFilter().reject(host(), for: request { $0.schedulerHints = ["query": [text]] })
        #expect((rejection == nil) == passes)
    }

    @Test("A query that nests without end is refused, not followed")
    func deep() {
        let text = String(repeating: #"["not", "#, count: 10_000) + "1" + String(repeating: "]", count: 10_000)
        #expect(throws: HostQuery.Malformed.self) { try HostQuery(parsing: text) }
    }

    @Test(
        "Networks",
        arguments: [
            (["build_near_host_ip": "10.1.2.9"], true), (["build_near_host_ip": "10.1.3.9"], false),
            (["build_near_host_ip": "10.1.3.9", "cidr": "/16"], true),
            (["build_near_host_ip": "10.1.2.9", "cidr": "30"], false),
            (["build_near_host_ip": "10.1.2.3", "cidr": "/32"], true), (["build_near_host_ip": "x"], false),
            (["build_near_host_ip": "10.1.2.9", "cidr": "/33"], false), (["build_near_host_ip": "::1"], false),
            ([:], true),
            (["build_near_host_ip": "1.1.1.1", "cidr": "/0"], true),
        ])
    func networks(hints: [String: String], passes: Bool) {
        let asked = request { $0.schedulerHints = hints.mapValues { [$0] } }
        #expect((SimpleCIDRAffinityFilter().reject(host(), for: asked) == nil) == passes)
    }

    @Test(
        "Server groups",
        arguments: [
            (ServerGroup.Policy.antiAffinity, 1, ["h": 1], false), (.antiAffinity, 1, ["o": 1], true),
            (.antiAffinity, 2, ["h": 1], true), (.antiAffinity, 2, ["h": 2], false), (.antiAffinity, 1, [:], true),
            (.affinity, 1, ["h": 1], true), (.affinity, 1, ["o": 1], false), (.affinity, 1, [:], true),
            (.softAffinity, 1, ["o": 1], true), (.softAntiAffinity, 1, ["h": 9], true),
        ])
    func groups(policy: ServerGroup.Policy, most: Int, members: [String: Int], passes: Bool) {
        let asked = request {
            $0.group = .init(
                id: ServerGroupID("g"), policy: policy, maxServersPerHost: most,
                members: Dictionary(uniqueKeysWithValues: members.map { (HostName($0.key), $0.value) }))
        }
        let filters: [any HostFilter] = [ServerGroupAntiAffinityFilter(), ServerGroupAffinityFilter()]
        #expect(filters.allSatisfy { $0.reject(host(), for: asked) == nil } == passes)
    }

    @Test("Hosts of servers named by hints, of other flavors, tried before, without metrics")
    func others() {
        let near = request {
            ($0.sameHosts, $0.differentHosts) = ([HostName("h")], [HostName("o")])
            ($0.otherFlavorHosts, $0.triedHosts) = ([HostName("o")], [HostName("o")])
        }
        let filters: [any HostFilter] = [
            SameHostFilter(), DifferentHostFilter(), TypeAffinityFilter(), RetryFilter(),
            MetricsFilter(["cpu.frequency"]),
        ]
        let here = host { $0.metrics = ["cpu.frequency": 1] }
        #expect(filters.allSatisfy { $0.reject(here, for: near) == nil })
        #expect(filters.allSatisfy { $0.reject(host { $0.name = HostName("o") }, for: near) != nil })
        #expect(filters.dropLast().allSatisfy { $0.reject(host(), for: request()) == nil })
        #expect(AllHostsFilter().reject(host { $0.isDisabled = true }, for: request()) == nil)
    }

    @Test("Every name of the catalog makes the filter of that name")
    func catalog() throws {
        var options = SchedulingOptions()
        options.enabledFilters = FilterCatalog.names
        #expect(try FilterCatalog.filters(options).map(\.name) == FilterCatalog.names)
        #expect(Set(FilterCatalog.names).count == FilterCatalog.names.count)
    }
}

@Suite("What each weigher prefers")
struct WeigherTableTests {
    /// The order of hosts under one weigher alone.
    private func order(
        _ weigher: FigureWeigher, _ hosts: [HostState], _ asked: PlacementRequest = request { $0.alternates = 9 }
    ) -> [String] {
        var scheduler = FilterScheduler(filters: [], weighers: [weigher])
        hosts.forEach { scheduler.update($0) }
        for host in hosts { scheduler.setAggregates(of: host.name, host.aggregates, zone: "nova") }
        var generator = SystemRandomNumberGenerator()
        guard
            case .placed(let lists) = scheduler.select(asked, now: Timestamp(microseconds: 0), using: &generator)
        else { return [] }
        return lists.first?.map(\.rawValue) ?? []
    }

    private func pair(_ first: (inout HostState) -> Void, _ second: (inout HostState) -> Void) -> [HostState] {
        [
            host {
                $0.name = HostName("a")
                first(&$0)
            },
            host {
                $0.name = HostName("b")
                second(&$0)
            },
        ]
    }

    @Test("Each by its figure, and turned round by a negative multiplier")
    func figures() {
        let cases: [((Double) -> FigureWeigher, [HostState])] = [
            ({ .memory($0) }, pair({ $0.used.memoryMiB = 1 }, { _ in })),
            ({ .processors($0) }, pair({ $0.used.vcpus = 1 }, { _ in })),
            ({ .disk($0) }, pair({ $0.diskAvailableLeastGiB = 10 }, { _ in })),
            ({ .ioOperations($0) }, pair({ _ in }, { $0.ioOperations = 1 })),
            (
                { .pci($0) },
                pair(
                    {
                        $0.pciPools = [
                            PCIPool(vendorID: "1", productID: "2", kind: .plain, numaNode: nil, total: 2, free: 2)
                        ]
                    }, { _ in })
            ), ({ .buildFailures($0) }, pair({ $0.failedBuilds = 1 }, { _ in })),
            ({ .hypervisorVersion($0) }, pair({ _ in }, { $0.hypervisorVersion = 8_000_000 })),
            ({ .instances($0) }, pair({ _ in }, { $0.instanceCount = 3 })),
            ({ .metrics($0, ratios: ["x": 2]) }, pair({ $0.metrics = ["x": 1] }, { $0.metrics = ["x": 2] })),
            ({ .metrics($0, ratios: ["x": 2]) }, pair({ _ in }, { $0.metrics = ["x": 2] })),
        ]
        for (index, (weigher, hosts)) in cases.enumerated() {
            #expect(order(weigher(1), hosts) == ["b", "a"], "case \(index)")
            #expect(order(weigher(-1), hosts) == ["a", "b"], "case \(index)")
            #expect(order(weigher(0), hosts) == ["a", "b"], "case \(index)")
        }
    }

    @Test("Soft groups draw together, or apart")
    func soft() {
        func asked(_ policy: ServerGroup.Policy) -> PlacementRequest {
            request {
                $0.alternates = 9
                $0.group = .init(id: ServerGroupID("g"), policy: policy, members: [HostName("b"): 1])
            }
        }
        let hosts = pair({ _ in }, { _ in })
        #expect(order(.softAffinity(), hosts, asked(.softAffinity)) == ["b", "a"])
        #expect(order(.softAntiAffinity(), hosts, asked(.softAntiAffinity)) == ["a", "b"])
        #expect(order(.softAffinity(), hosts, asked(.antiAffinity)) == ["a", "b"])
    }

    @Test("An aggregate's multiplier stands in for the configured one, the least of several; nonsense does not")
    func aggregateMultiplier() {
        let key = "ram_weight_multiplier"
        let hosts = pair({ $0.used.memoryMiB = 1 }, { $0.aggregates = aggregates([key: "-1"], [key: "3"], [key: "x"]) })
        #expect(order(.memory(), hosts) == ["a", "b"])
        let odd = pair({ $0.used.memoryMiB = 1 }, { $0.aggregates = aggregates([key: "x"]) })
        #expect(order(.memory(), odd) == ["b", "a"])
    }

    @Test("Free memory below zero counts as none, and equal hosts keep the order of their names")
    func clamped() {
        let hosts = pair({ $0.used.memoryMiB = 99_999 }, { $0.used.memoryMiB = 999_999 })
        #expect(order(.memory(), hosts) == ["a", "b"])
    }

    @Test("Images with the same properties draw together")
    func images() {
        let asked = request {
            $0.alternates = 9
            $0.imageProperties = ["os_distro": "debian"]
            $0.imagePropertyCounts = [HostName("b"): ["os_distro=debian": 2], HostName("a"): ["os_distro=other": 9]]
        }
        let hosts = pair({ _ in }, { _ in })
        #expect(order(.imageProperties(1), hosts, asked) == ["b", "a"])
        #expect(order(.imageProperties(1, weights: ["os_type": 1]), hosts, asked) == ["a", "b"])
        let agent = request {
            $0.alternates = 9
            $0.imageProperties = ["hw_qemu_guest_agent": "yes"]
            $0.setImagePropertyCounts([
                HostName("b"): ["hw_qemu_guest_agent=true": 1, "hw_qemu_guest_agent=1": 1],
                HostName("a"): ["hw_qemu_guest_agent=True": 1, "hw_qemu_guest_agent=no": 9],
            ])
        }
        #expect(agent.imagePropertyCounts?[HostName("b")] == ["hw_qemu_guest_agent=True": 2])
        #expect(order(.imageProperties(1), hosts, agent) == ["b", "a"])
    }
}

@Suite("Which hosts come into question")
struct DestinationTests {
    private func select(_ asked: PlacementRequest, _ filters: [any HostFilter] = [ComputeFilter()]) -> PlacementDecision
    {
        var scheduler = FilterScheduler(filters: filters, weighers: [])
        for name in ["Alpha", "beta"] {
            scheduler.update(
                host {
                    $0.name = HostName(name)
                    $0.node = name + ".example"
                    $0.isDisabled = name == "beta"
                })
        }
        var generator = SystemRandomNumberGenerator()
        return scheduler.select(asked, now: Timestamp(microseconds: 0), using: &generator)
    }

    @Test("A forced host is taken whatever the filters say, in any letter case; a forced node by its exact name")
    func forced() {
        #expect(select(request { $0.forcedHost = HostName("BETA") }) == .placed([[HostName("beta")]]))
        #expect(select(request { $0.forcedNode = "beta.example" }) == .placed([[HostName("beta")]]))
        guard case .refused(let refusal) = select(request { $0.forcedNode = "BETA.example" }) else {
            Issue.record("placed on a node that there is not")
            return
        }
        #expect(refusal.reasons.map(\.reason) == ["not the one that was asked for"])
    }

    @Test("A requested host must pass the filters; ignored ones are never taken, in any letter case")
    func requested() {
        #expect(select(request { $0.requestedHost = HostName("Alpha") }) == .placed([[HostName("Alpha")]]))
        guard case .refused(let refusal) = select(request { $0.requestedHost = HostName("beta") }) else {
            Issue.record("placed on a disabled host")
            return
        }
        #expect(refusal.reasons.map(\.reason).sorted() == ["disabled", "not the one that was asked for"])
        #expect(select(request { $0.ignoredHosts = [HostName("ALPHA")] }, []) == .placed([[HostName("beta")]]))
    }

    @Test("Several instances of a group at once land apart, or not at all")
    func several() {
        let group = PlacementRequest.Group(id: ServerGroupID("g"), policy: .antiAffinity)
        for (count, isPlaced) in [(2, true), (3, false)] {
            let asked = request {
                $0.instances = (0..<count).map { InstanceID("i\($0)") }
                $0.group = group
            }
            let decision = select(asked, [ServerGroupAntiAffinityFilter()])
            guard case .placed(let lists) = decision else {
                #expect(!isPlaced)
                continue
            }
            #expect(isPlaced && Set(lists.compactMap(\.first)) == [HostName("Alpha"), HostName("beta")])
        }
    }
}

@Suite("Cells and devices")
struct HardwareFilterTests {
    /// Two cells of four shared and four dedicated processors, and two devices near each.
    private func big(_ change: (inout HostState) -> Void = { _ in }) -> HostState {
        host { host in
            host.cells = [0, 8].map { first in
                HostCellReport(
                    id: first / 8, memoryMiB: 4_096, memoryUsedMiB: 0, sharedCPUs: CPUSet(Set(first..<first + 4)),
                    sharedVCPUs: 0, dedicatedCPUs: CPUSet(Set(first + 4..<first + 8)), takenCPUs: CPUSet(),
                    cores: stride(from: first, to: first + 8, by: 2).map { CPUSet([$0, $0 + 1]) },
                    pages: [
                        .init(sizeKiB: 4, total: 1_048_576 - 262_144, reserved: 0, used: 0),
                        .init(sizeKiB: 2_048, total: 512, reserved: 0, used: 0),
                    ])
            }
            host.pciPools = [0, 1].map { node in
                PCIPool(
                    vendorID: "8086", productID: "10ed", kind: .plain, numaNode: node, total: 2, free: 2,
                    aliases: ["nic": "legacy"])
            }
            change(&host)
        }
    }

    private func asks(_ specs: [String: String], vcpus: Int = 2, memoryMiB: Int = 1_024) -> PlacementRequest {
        request {
            $0.flavor = Flavor(
                id: FlavorID("1"), name: "f", vcpus: vcpus, memoryMiB: memoryMiB, rootGiB: 1, extraSpecs: specs)
        }
    }

    @Test("Demands of cells, and what is short where they are not met")
    func cells() {
        let filter = NUMATopologyFilter()
        let cases: [(PlacementRequest, HostState, String?)] = [
            (asks([:]), host(), nil), (asks(["trait:X": "required"]), host(), nil),
            (asks(["hw:numa_nodes": "1"]), host(), "without NUMA cells that they tell of"),
            (asks(["hw:numa_nodes": "1"]), big(), nil), (asks(["hw:numa_nodes": "2"]), big(), nil),
            (asks(["hw:numa_nodes": "3"], vcpus: 3, memoryMiB: 900), big(), "short of NUMA cells with room"),
            (asks(["hw:cpu_policy": "dedicated"], vcpus: 4), big(), nil),
            (asks(["hw:cpu_policy": "dedicated"], vcpus: 5), big(), "short of dedicated CPUs in a NUMA cell"),
            (asks(["hw:cpu_policy": "dedicated", "hw:numa_nodes": "2"], vcpus: 8), big(), nil),
            (
                asks(["hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "isolate"], vcpus: 3), big(),
                "short of CPUs that the thread policy can have"
            ),
            (asks(["hw:mem_page_size": "large"], memoryMiB: 1_024), big(), nil),
            (asks(["hw:mem_page_size": "large"], memoryMiB: 1_026), big(), "short of pages 2048 kib"),
            (asks(["hw:mem_page_size": "1GB"]), big(), "short of pages 1048576 kib"),
            (asks(["hw:numa_nodes": "1"], memoryMiB: 4_000), big(), "short of memory in a NUMA cell"),
            (asks(["hw:numa_nodes": "many"]), big(), "asked for what cannot be read"),
        ]
        for (asked, host, reason) in cases {
            let rejection = filter.reject(host, for: asked)
            #expect(
                rejection?.reason.hasPrefix(reason ?? "none") ?? (reason == nil), "\(asked.flavor?.extraSpecs ?? [:])")
            if filter.isNeutral(for: asked) { #expect(rejection == nil) }
        }
        let short = filter.reject(big(), for: asks(["hw:cpu_policy": "dedicated"], vcpus: 6))
        #expect(short?.shortage == 2 && short?.unit == "CPUs")
    }

    @Test("Each instance takes its processors in the table, until there are none")
    func consumed() {
        var scheduler = FilterScheduler(filters: [NUMATopologyFilter()], weighers: [])
        scheduler.update(big())
        var generator = SystemRandomNumberGenerator()
        let asked = asks(["hw:cpu_policy": "dedicated"], vcpus: 4)
        for _ in 0..<2 {
            #expect(
                scheduler.select(asked, now: Timestamp(microseconds: 1), using: &generator)
                    == .placed([[HostName("h")]]))
        }
        #expect(scheduler.hosts[0].cells?.map(\.takenCPUs.count) == [4, 4])
        guard case .refused(let refusal) = scheduler.select(asked, now: Timestamp(microseconds: 2), using: &generator)
        else {
            Issue.record("a processor was promised twice")
            return
        }
        #expect(refusal.message.contains("short of dedicated CPUs in a NUMA cell (nearest by 4 CPUs)"))
    }

    @Test("Demands of devices")
    func devices() {
        let filter = PciPassthroughFilter()
        let near = ["hw:numa_nodes": "1", "hw:pci_numa_affinity_policy": "required"]
        let cases: [(PlacementRequest, HostState, String?)] = [
            (asks([:]), host(), nil),
            (asks(["pci_passthrough:alias": "nic:1"]), host(), "without devices for guests"),
            (asks(["pci_passthrough:alias": "gpu:1"]), big(), "without devices of gpu"),
            (asks(["pci_passthrough:alias": "nic:4"]), big(), nil),
            (asks(["pci_passthrough:alias": "nic:5"]), big(), "short of devices of nic"),
            // Without cells of its own a guest is near to all.
            (asks(["pci_passthrough:alias": "nic:4", "hw:pci_numa_affinity_policy": "required"]), big(), nil),
            (asks(near.merging(["pci_passthrough:alias": "nic:2"]) { $1 }), big(), nil),
            (asks(near.merging(["pci_passthrough:alias": "nic:3"]) { $1 }), big(), "short of devices of nic"),
            (
                asks(["hw:numa_nodes": "1", "pci_passthrough:alias": "nic:3"]), big(),
                "short of devices of nic"
            ),
            (
                asks(["hw:numa_nodes": "1", "pci_passthrough:alias": "nic:1"]),
                big { $0.pciPools?[0].free = 0 }, nil
            ),
            (
                asks(["hw:numa_nodes": "1", "pci_passthrough:alias": "nic:1"]),
                big {
                    $0.pciPools = [$0.pciPools![0]].map { pool in
                        var pool = pool
                        (pool.numaNode, pool.free) = (nil, 1)
                        return pool
                    }
                }, nil
            ),
            // What the agent does not tell its claim decides.
            (
                asks(["pci_passthrough:alias": "nic:9"]),
                big {
                    $0.pciPools = [$0.pciPools![0]].map { pool in
                        var pool = pool
                        pool.aliases = nil
                        return pool
                    }
                }, nil
            ),
        ]
        for (asked, host, reason) in cases {
            let rejection = filter.reject(host, for: asked)
            #expect(rejection?.reason == reason, "\(asked.flavor?.extraSpecs ?? [:])")
        }
    }

    @Test("A guest's devices are taken near the very cells that it takes")
    func nearItsOwn() {
        var scheduler = FilterScheduler(filters: [NUMATopologyFilter(), PciPassthroughFilter()], weighers: [])
        scheduler.update(big())
        var generator = SystemRandomNumberGenerator()
        let asked = asks(
            [
                "hw:cpu_policy": "dedicated", "hw:pci_numa_affinity_policy": "required",
                "pci_passthrough:alias": "nic:2",
            ],
            vcpus: 4)
        for round in 1...2 {
            let decision = scheduler.select(asked, now: Timestamp(microseconds: Int64(round)), using: &generator)
            #expect(decision == .placed([[HostName("h")]]))
            let host = scheduler.hosts[0]
            let taken = Set(host.cells?.filter { !$0.takenCPUs.isEmpty }.map(\.id) ?? [])
            #expect(taken.count == round)
            #expect(Set(host.pciPools?.filter { $0.free == 0 }.compactMap(\.numaNode) ?? []) == taken)
        }
    }

    @Test("Two aliases that share a sort of device are told apart by what is left for each")
    func shared() {
        let filter = PciPassthroughFilter()
        var both = big()
        both.pciPools = [
            PCIPool(
                vendorID: "1", productID: "1", kind: .plain, numaNode: nil, total: 1, free: 1,
                aliases: ["any": "legacy", "one": "legacy"]),
            PCIPool(
                vendorID: "1", productID: "2", kind: .plain, numaNode: nil, total: 1, free: 1,
                aliases: ["any": "legacy"]),
        ]
        #expect(filter.reject(both, for: asks(["pci_passthrough:alias": "any:1,one:1"])) == nil)
        #expect(filter.reject(both, for: asks(["pci_passthrough:alias": "any:2,one:1"]))?.shortage == 1)
        filter.consume(&both, chosenAs: both, for: asks(["pci_passthrough:alias": "any:1,one:1"]))
        #expect(both.pciPools?.map(\.free) == [0, 0])
    }

    @Test("A weighed metric that a host lacks refuses it where it is required, and weighs little where not")
    func metrics() throws {
        var options = SchedulingOptions()
        options.metricRatios = ["cpu.percent": -1]
        #expect(try FilterCatalog.filters(options).last?.name == "MetricsFilter")
        for (isRequired, expected) in [(true, ["a"]), (false, ["a", "b"])] {
            options.requiresMetrics = isRequired
            var scheduler = try FilterScheduler(options)
            scheduler.update(
                host {
                    $0.name = HostName("a")
                    $0.metrics = ["cpu.percent": 1]
                })
            scheduler.update(host { $0.name = HostName("b") })
            let asked = request { $0.alternates = 2 }
            #expect(scheduler.explanation(of: asked).order.map(\.rawValue) == expected)
        }
    }

    @Test("Failed builds count against a host by the least multiplier of its aggregates")
    func failures() {
        let weigher = FigureWeigher.buildFailures(2)
        let plain = host { $0.failedBuilds = 3 }
        #expect(weigher.weigh(plain, for: request()) == 3 && weigher.multiplier(of: plain) == -2)
        let own = host {
            $0.aggregates = aggregates(
                ["build_failure_weight_multiplier": "5"], ["build_failure_weight_multiplier": "7"])
        }
        #expect(weigher.multiplier(of: own) == -5)
    }

    @Test("What ought to be a number in an aggregate's metadata and is none is told")
    func unreadable() {
        let facts = AggregateFacts(
            name: "a",
            metadata: [
                "cpu_allocation_ratio": "two", "ram_weight_multiplier": " 2.5 ", "max_io_ops_per_host": "",
                "ssd": "true", "disk_allocation_ratio": "inf",
            ])
        #expect(
            facts.unreadable.map(\.key) == ["cpu_allocation_ratio", "disk_allocation_ratio", "max_io_ops_per_host"])
    }

    @Test("A request's traits and hints are asked for whatever the configuration lists")
    func always() throws {
        var options = SchedulingOptions()
        options.enabledFilters = ["AllHostsFilter"]
        #expect(
            try FilterCatalog.filters(options).map(\.name)
                == ["AllHostsFilter", "TraitsFilter", "SameHostFilter", "DifferentHostFilter"])
        #expect(try FilterCatalog.filters(SchedulingOptions()).count == FilterCatalog.defaults.count + 3)
    }
}
