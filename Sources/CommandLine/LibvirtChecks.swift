internal import Libvirt
internal import LibvirtDriver

/// The checks of `apus doctor` that ask libvirt and QEMU.
enum LibvirtChecks {
    /// The oldest release that is tried.
    private static let oldest = PackedVersion(9, 0, 0)

    /// The connection, the versions behind it, and the network where NICs are plugged.
    static func connection(uri: String, network: String) async -> [Finding] {
        let connection: LibvirtConnection
        do {
            connection = try await LibvirtConnection.open(uri: uri, name: "doctor")
        } catch {
            return [
                .problem(
                    "libvirt", "no connection to \(uri): \(error.message)",
                    "start it: systemctl start libvirtd, or deploy/lab daemon start where there is no systemd")
            ]
        }
        var findings = [await versions(connection)]
        if let finding = await self.network(network, connection) { findings.append(finding) }
        _ = await connection.close()
        return findings
    }

    private static func versions(_ connection: LibvirtConnection) async -> Finding {
        do {
            let libvirt = try await connection.libvirtVersion()
            let hypervisor = try await connection.hypervisorVersion()
            let type = try await connection.hypervisorType()
            let text = "libvirt \(libvirt), \(type) \(hypervisor) at \(connection.uri)"
            return libvirt < oldest
                ? .problem("libvirt", text, "install libvirt \(oldest) or later") : .ok("libvirt", text)
        } catch {
            return .problem(
                "libvirt", "\(connection.uri) answers, but not with its versions: \(error.message)",
                "look at libvirtd's log; is qemu-system-x86 installed?")
        }
    }

    private static func network(_ binding: String, _ connection: LibvirtConnection) async -> Finding? {
        let prefix = "libvirt:"
        guard binding.hasPrefix(prefix) else { return nil }
        let name = String(binding.dropFirst(prefix.count))
        do {
            if try await connection.isNetworkActive(name) {
                return .ok("network", "libvirt's network \(name) is active")
            }
            return .problem("network", "libvirt's network \(name) is not active", "virsh net-start \(name)")
        } catch  where error.code == .noNetwork {
            return .problem(
                "network", "libvirt has no network \(name)",
                "define one, or name another in [compute] network (libvirt:NAME or bridge:NAME)")
        } catch {
            return .problem(
                "network", "libvirt cannot tell of its network \(name): \(error.message)", "look at libvirtd's log")
        }
    }

    /// Whether hardware virtualization can really boot a guest.
    static func kvm(_ outcome: KVMProbe.Outcome, isRequired: Bool) -> Finding {
        switch outcome {
        case .works:
            return .ok("kvm", "boots a guest")
        case .unusable(let reason) where isRequired:
            return .problem("kvm", reason, "[libvirt] virt_type is kvm: enable virtualization, or set it to auto")
        case .unusable(let reason):
            return .warning(
                "kvm", reason,
                "guests run under emulation, 10–20 times slower; enable (nested) virtualization to change that")
        }
    }
}
