internal import CSystem
internal import Compute
internal import Configuration
internal import Glibc
internal import HTTP
internal import LibvirtDriver
internal import Model
internal import RPC
internal import Telemetry

extension Command {
    /// `apus doctor`
    static let doctor = Command(
        name: "doctor", summary: "Say what of this host works, what does not, and what to do.",
        details: "The exit code is 1 when there is a problem; warnings do not count.",
        options: [OptionSpec(name: "json", help: "Print JSON instead of lines.")] + UpSettings.options
    ) { invocation, terminal in
        let settings = try UpSettings(invocation)
        let findings = await Doctor(settings: settings).examine()
        if invocation.has("json") {
            terminal.print(.array(findings.map(\.json)))
        } else {
            let width = findings.map(\.check.count).max() ?? 0
            for finding in findings { terminal.print(finding.line(width: width)) }
        }
        return findings.contains { $0.level == .problem } ? 1 : 0
    }
}

/// Looks at everything that `apus up` and the agent stand on. Changes nothing.
struct Doctor: Sendable {
    let settings: UpSettings

    /// All findings, in the order in which a person would look. A few seconds: the KVM probe boots a guest.
    func examine() async -> [Finding] {
        let configuration = settings.configuration
        let own = PidFile.runningProcess(statePath: settings.statePath)
        var findings = [HostChecks.privileges(userID: geteuid())]
        findings += configuration.warnings.map { .warning("configuration", $0, "see apus up --print-config") }
        findings += await LibvirtChecks.connection(
            uri: configuration[LibvirtDriverOptions.connectionURI], network: configuration[LibvirtDriverOptions.network]
        )
        findings.append(HostChecks.virtlogd(socket: "/run/libvirt/virtlogd-sock"))
        let type = configuration[LibvirtDriverOptions.virtType]
        if type == .qemu {
            findings.append(.ok("kvm", "not asked for: [libvirt] virt_type is qemu"))
        } else {
            findings.append(LibvirtChecks.kvm(await KVMProbe.result(), isRequired: type == .kvm))
        }
        findings += [
            HostChecks.program("qemu-img", package: "qemu-utils"),
            HostChecks.program("genisoimage", package: "genisoimage", alternative: "xorriso"),
            HostChecks.space("state path", path: settings.statePath, least: 256 << 20),
            HostChecks.space("instances path", path: settings.instancesPath, least: 1 << 30),
            HostChecks.passable("instances path", path: settings.instancesPath),
            await clock(own: own),
        ]
        findings.append(HostChecks.metadata(isOn: configuration[ComputeOptions.servesMetadata]))
        findings += settings.listens.map { listen in
            HostChecks.port(
                listen.role, port: listen.address.port, listener: ProcessTable.listener(port: listen.address.port),
                own: own)
        }
        findings += permissions()
        findings.append(
            HostChecks.plaintext(
                isAllowed: configuration[RPCOptions.allowPlaintext],
                listens: settings.listens.map { ($0.role, $0.address.description, $0.address.isLoopback) }))
        return findings
    }

    private func permissions() -> [Finding] {
        var findings: [Finding] = []
        if let finding = HostChecks.mode(
            "state path", path: settings.statePath, forbidden: 0o066, advice: "chmod go-rw")
        {
            findings.append(finding)
        }
        for name in ["apus.db", "openrc", "clouds.yaml"] {
            let path = "\(settings.statePath)/\(name)"
            if let finding = HostChecks.mode(name, path: path, forbidden: 0o077, advice: "chmod 600") {
                findings.append(finding)
            }
        }
        for path in settings.files {
            if let finding = HostChecks.mode("configuration", path: path, forbidden: 0o022, advice: "chmod go-w") {
                findings.append(finding)
            }
        }
        return findings
    }

    /// The date, and where a control plane answers, how far from its clock this one is.
    private func clock(own: Int32?) async -> Finding {
        let now = WallClock.now()
        let plausible = HostChecks.date(now)
        guard plausible.level == .ok, own == nil || own == getpid(), let control = await controlClock() else {
            // On the control host itself it is the same clock.
            return plausible
        }
        return HostChecks.clock(WallClock.now(), control: control)
    }

    /// The clock of the API's host, from its answer's Date header; `nil` where no API is named or answers.
    private func controlClock() async -> Timestamp? {
        let environment = processEnvironment()
        guard let url = environment["OS_AUTH_URL"], !url.isEmpty else { return nil }
        let client = HTTPClient(tls: environment["OS_CACERT"].map { ClientTLS(caPath: $0) } ?? ClientTLS())
        var request = ClientRequest(method: .get, url: url)
        request.timeout = .seconds(5)
        let answer = try? await client.send(request)
        await client.shutdown()
        return answer?.headers["Date"].flatMap { httpDate($0) }
    }
}

/// `Sun, 22 Nov 2026 20:51:16 GMT`, the one form that servers write today.
func httpDate(_ text: String) -> Timestamp? {
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    let parts = text.split(separator: " ")
    guard parts.count == 6, parts[5] == "GMT", let month = months.firstIndex(of: String(parts[2])) else { return nil }
    return Timestamp(iso8601: "\(parts[3])-\(paddedZero(month + 1))-\(parts[1])T\(parts[4])Z")
}

private func paddedZero(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
