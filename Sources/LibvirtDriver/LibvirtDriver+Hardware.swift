internal import Compute
internal import Configuration
internal import GuestHardware
internal import Libvirt
internal import Model
internal import Telemetry
internal import XML

extension LibvirtDriver {
    /// What the flavor and the image ask of a guest, settled with what this host has.
    /// - Throws: `.invalidParameters` for what no host can do, `.hypervisor` for what this one cannot.
    func machinePlan(_ flavor: Flavor, _ image: ImageReference) async throws -> MachinePlan {
        let settings = try ready().settings
        let hardware: GuestHardware
        do throws(HardwareError) {
            hardware = try GuestHardware(flavor: flavor, imageProperties: image.properties)
        } catch {
            throw Failure(.invalidParameters, "\(error)")
        }
        let refuse = Self.refusal(flavor, image)
        let tuning = hardware.processor
        if tuning.shares != nil || tuning.quotaMicroseconds != nil || tuning.periodMicroseconds != nil,
            await !files.run({ Self.hasCPUController() })
        {
            let demand: GuestHardware.Demand =
                tuning.shares != nil ? .cpuShares : tuning.quotaMicroseconds != nil ? .cpuQuota : .cpuPeriod
            throw refuse(demand, "the host's kernel has no CPU controller in its control groups")
        }
        var found: HostAbilities?
        if MachinePlan.needsAbilities(hardware, settings) {
            found = try await abilities(machine: MachinePlan.type(hardware, settings), settings, refuse)
        }
        return try MachinePlan(hardware, settings, abilities: found, refuse: refuse)
    }

    /// How the guest's rescue image wants to be plugged; `nil` where there is none, or it takes the root disk's place.
    /// - Throws: `.invalidParameters` for what no host can do, `.hypervisor` for a bus that this one, or the guest's
    ///   machine, does not have.
    func rescueHardware(of guest: GuestSpecification, _ plan: MachinePlan) async throws -> RescueHardware? {
        guard let image = guest.rescueImage else { return nil }
        let rescue: RescueHardware?
        do throws(HardwareError) {
            rescue = try RescueHardware(imageProperties: image.properties)
        } catch {
            throw Failure(.invalidParameters, "\(error)")
        }
        guard let bus = rescue?.bus else { return rescue }
        let refuse = Self.refusal(guest.instance.flavor, image)
        let found = try await abilities(machine: plan.type, try ready().settings, refuse)
        if let flaw = plan.flaw(of: bus, found) { throw refuse(.rescueBus, flaw) }
        return rescue
    }

    private static func refusal(_ flavor: Flavor, _ image: ImageReference) -> MachinePlan.Refusal {
        { demand, reason in
            let error = GuestHardware.refusal(demand, reason, flavor: flavor, imageProperties: image.properties)
            return Failure(.hypervisor, "this host cannot: \(error)", isRetriable: true)
        }
    }

    /// libvirt's answer is kept for as long as the connection.
    private func abilities(
        machine: String, _ settings: DomainSettings, _ refuse: MachinePlan.Refusal
    ) async throws -> HostAbilities {
        do {
            return try await abilities(
                machine: machine, architecture: settings.architecture, virtType: settings.virtType)
        } catch let error as LibvirtError where error.code != .connectionLost {
            throw refuse(.machineType, String(error.message.prefix(200)))
        }
    }

    func abilities(machine: String, architecture: String, virtType: String) async throws -> HostAbilities {
        let connection = try await connection(.work)
        let text = try await connection.domainCapabilities(
            architecture: architecture, machine: machine, type: virtType)
        let (libvirt, hypervisor) = (try await connection.libvirtVersion(), try await connection.hypervisorVersion())
        do {
            var found = HostAbilities(try XMLNode(parsing: text), libvirt: libvirt, hypervisor: hypervisor)
            if let emulator = found.emulator {
                found.devices = await emulatorDevices.names(of: emulator, version: "\(hypervisor)")
            }
            return found
        } catch {
            throw Failure(.hypervisor, "libvirt's domain capabilities cannot be read: \(error)", isRetriable: true)
        }
    }

    /// The processor that the configuration gives to guests.
    /// - Throws: when none of the models that it names can run here.
    func cpuSettings(architecture: String, virtType: String, machine: String) async throws -> CPUSettings {
        let mode = configuration[LibvirtDriverOptions.cpuMode] ?? (virtType == "kvm" ? .hostModel : .none)
        var settings = CPUSettings(mode: mode)
        settings.features = configuration[LibvirtDriverOptions.cpuFlags].map { flag in
            CPUSettings.Feature(
                name: String(flag.drop { $0 == "+" || $0 == "-" }).lowercased(), isRequired: !flag.hasPrefix("-"))
        }
        guard mode == .custom else { return settings }
        let wanted = configuration[LibvirtDriverOptions.cpuModels]
        guard !wanted.isEmpty else {
            throw Failure(.invalidParameters, "[libvirt] cpu_mode is custom, and [libvirt] cpu_models names no model")
        }
        let known = try await translated("looking at the host's CPU models") {
            try await abilities(machine: machine, architecture: architecture, virtType: virtType).cpuModels
        }
        guard let model = wanted.first(where: known.contains) else {
            throw Failure(
                .invalidParameters,
                "[libvirt] cpu_models names \(wanted.joined(separator: ", ")); the host can run "
                    + HostAbilities.list(known))
        }
        settings.model = model
        return settings
    }

    /// Whether the kernel shares out CPU time by control groups, of version 2 or 1.
    private static func hasCPUController() -> Bool {
        if let controllers = try? Files.read("/sys/fs/cgroup/cgroup.controllers", limit: 4_096) {
            return controllers.split(separator: UInt8(ascii: " ")).contains {
                $0.filter { $0 != 10 }.elementsEqual("cpu".utf8)
            }
        }
        return Files.exists("/sys/fs/cgroup/cpu") || Files.exists("/sys/fs/cgroup/cpu,cpuacct")
    }
}
