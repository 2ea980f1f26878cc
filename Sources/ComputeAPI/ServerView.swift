internal import Crypto
internal import Database
internal import HTTP
internal import Model

/// Writes servers as clients of each version see them.
struct ServerView {
    /// Which members a server's answer has: `PUT` and `rebuild` give fewer up to 2.74.
    enum Form: Equatable {
        case full, afterUpdate
        case afterRebuild(adminPassword: String?)
    }

    private let call: ComputeCall
    private let settings: APISettings
    private let showsHostFacts: Bool
    private let showsHostStatus: Bool
    private let showsExtraSpecs: Bool
    /// The compute services by host, for `host_status`; read only where it is shown.
    private let services: [HostName: ServiceRecord]
    /// Of the hosts that are in an aggregate with one.
    private let zones: [HostName: String]
    private let now: Timestamp
    private var hostIDs: [String: String] = [:]

    init(_ call: ComputeCall, parts: ComputeParts) async throws {
        self.call = call
        settings = parts.settings
        now = parts.now()
        zones = try await parts.database.aggregates.table().zones
        showsHostFacts = call.allows("os-extended-server-attributes")
        showsHostStatus = call.isAtLeast(16) && call.allows("servers:show:host_status")
        showsExtraSpecs = call.isAtLeast(47) && call.allows("os-flavor-extra-specs:index")
        guard showsHostStatus else {
            services = [:]
            return
        }
        services = Dictionary(
            try await parts.database.services.list(binary: "nova-compute").map { ($0.host, $0) },
            uniquingKeysWith: { first, _ in first })
    }

    /// The short form of lists.
    func writeBrief(_ server: Instance, to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("id", server.id.rawValue)
            writer.member("name", server.name)
            call.writeLinks("servers/\(server.id)", to: &writer)
        }
    }

    /// Whom it is written for.
    var reader: WrittenServers.Reader {
        WrittenServers.Reader(
            base: call.base, minor: call.version.minor, isAdmin: call.caller.isAdmin, showsHostFacts: showsHostFacts,
            showsHostStatus: showsHostStatus, showsExtraSpecs: showsExtraSpecs)
    }

    /// The full form, as it is known where nothing has changed since; what is written anew goes into `fresh`.
    mutating func write(
        _ server: Instance, known: [InstanceID: WrittenServers.Entry], noting fresh: inout [WrittenServers.Entry],
        to writer: inout JSONWriter
    ) {
        let (zone, status) = (zone(server), showsHostStatus ? hostStatus(server) : "")
        if let entry = known[server.id], entry.zone == zone, entry.hostStatus == status, entry.server == server {
            return writer.raw(entry.json)
        }
        var own = JSONWriter(capacity: 1_536)
        write(server, to: &own)
        let json = own.finish()
        writer.raw(json)
        fresh.append(WrittenServers.Entry(server: server, zone: zone, hostStatus: status, json: json))
    }

    /// - Parameter group: the id of the server's group, where the answer has one: from 2.71 on, outside lists.
    mutating func write(
        _ server: Instance, _ form: Form = .full, group: ServerGroupMember? = nil, to writer: inout JSONWriter
    ) {
        let isFull = form == .full || call.isAtLeast(75)
        writer.object { writer in
            writer.member("id", server.id.rawValue)
            writer.member("name", server.name)
            writer.member("status", server.status.rawValue)
            writer.member("tenant_id", server.projectID.rawValue)
            writer.member("user_id", server.userID.rawValue)
            writer.object("metadata") { writer in
                for (key, value) in server.metadata.sorted(by: { $0.key < $1.key }) { writer.member(key, value) }
            }
            writer.member("hostId", hostID(server))
            writeImage(server, to: &writer)
            writeFlavor(server.flavor, to: &writer)
            writer.member("created", server.createdAt.iso8601)
            writer.member("updated", server.updatedAt.iso8601)
            writeAddresses(server, isFull: isFull, to: &writer)
            writer.member("accessIPv4", server.accessIPv4 ?? "")
            writer.member("accessIPv6", server.accessIPv6 ?? "")
            call.writeLinks("servers/\(server.id)", to: &writer)
            writer.member("OS-DCF:diskConfig", "MANUAL")
            if Self.showsProgress(server.status) { writer.member("progress", server.progress) }
            writeFault(server, to: &writer)
            if isFull { writeFullMembers(server, to: &writer) }
            if case .afterRebuild(let password) = form { writeRebuilt(server, password, to: &writer) }
            if call.isAtLeast(9) { writer.member("locked", server.lock != nil) }
            if call.isAtLeast(19) { writer.member("description", server.description) }
            if call.isAtLeast(26) {
                writer.array("tags") { writer in
                    for tag in server.tags.sorted() { writer.string(tag) }
                }
            }
            if let group {
                writer.array("server_groups") { writer in
                    if let id = group.group { writer.string(id.rawValue) }
                }
            }
            if call.isAtLeast(73) { writer.member("locked_reason", server.lock?.reason) }
            if call.isAtLeast(96) { writer.member("pinned_availability_zone", server.availabilityZone) }
            if call.isAtLeast(100) { writeHints(server, to: &writer) }
            // No image is verified.
            if call.isAtLeast(63) { writer.member("trusted_image_certificates", nil as String?) }
            if isFull, showsHostStatus { writer.member("host_status", hostStatus(server)) }
        }
    }

    private func writeRebuilt(_ server: Instance, _ password: String?, to writer: inout JSONWriter) {
        if let password { writer.member("adminPass", password) }
        if call.isAtLeast(54), !call.isAtLeast(75) { writer.member("key_name", server.keyName) }
        if call.isAtLeast(57) { writer.member("user_data", server.userData) }
    }

    private static func showsProgress(_ status: ServerStatus) -> Bool {
        switch status {
        case .active, .build, .rebuild, .resize, .verifyResize, .migrating: true
        default: false
        }
    }

    private func writeImage(_ server: Instance, to writer: inout JSONWriter) {
        writer.object("image") { writer in
            writer.member("id", server.imageID.rawValue)
            writeBookmark("images/\(server.imageID)", to: &writer)
            guard call.isAtLeast(98) else { return }
            writer.object("properties") { writer in
                let properties = server.imageProperties ?? [:]
                for (key, value) in properties.sorted(by: { $0.key < $1.key }) { writer.member(key, value) }
            }
        }
    }

    /// One value stands as itself, several as a list, as they are asked for.
    private func writeHints(_ server: Instance, to writer: inout JSONWriter) {
        writer.object("scheduler_hints") { writer in
            for (name, values) in server.schedulerHints.sorted(by: { $0.key < $1.key }) {
                if values.count == 1 {
                    writer.member(name, values[0])
                } else {
                    writer.array(name) { writer in
                        for value in values { writer.string(value) }
                    }
                }
            }
        }
    }

    private func writeBookmark(_ path: String, to writer: inout JSONWriter) {
        writer.array("links") { writer in
            writer.object {
                $0.member("rel", "bookmark")
                $0.member("href", "\(call.base)/\(path)")
            }
        }
    }

    private func writeFlavor(_ flavor: Flavor, to writer: inout JSONWriter) {
        writer.object("flavor") { writer in
            guard call.isAtLeast(47) else {
                writer.member("id", flavor.id.rawValue)
                writeBookmark("flavors/\(flavor.id)", to: &writer)
                return
            }
            writer.member("vcpus", flavor.vcpus)
            writer.member("ram", flavor.memoryMiB)
            writer.member("disk", flavor.rootGiB)
            writer.member("ephemeral", flavor.ephemeralGiB)
            writer.member("swap", flavor.swapMiB)
            writer.member("original_name", flavor.name)
            guard showsExtraSpecs else { return }
            writer.object("extra_specs") { writer in
                for (key, value) in flavor.extraSpecs.sorted(by: { $0.key < $1.key }) { writer.member(key, value) }
            }
        }
    }

    private func writeAddresses(_ server: Instance, isFull: Bool, to writer: inout JSONWriter) {
        writer.object("addresses") { writer in
            for (network, interfaces) in addressesByNetwork(server) {
                writer.array(network) { writer in
                    for interface in interfaces {
                        writer.object { writer in
                            writer.member("version", 4)
                            writer.member("addr", interface.ipv4Address)
                            guard isFull || call.isAtLeast(3) else { return }
                            writer.member("OS-EXT-IPS:type", "fixed")
                            writer.member("OS-EXT-IPS-MAC:mac_addr", interface.macAddress)
                        }
                    }
                }
            }
        }
    }

    /// Beside Nova's two states, where its guest has halted by itself, which the status does not tell.
    private func writeFault(_ server: Instance, to writer: inout JSONWriter) {
        let isHalted = server.powerState == .crashed || server.powerState == .paused && server.vmState == .active
        guard server.status == .error || server.status == .deleted || isHalted, let fault = server.fault else { return }
        writer.object("fault") { writer in
            writer.member("code", fault.code)
            writer.member("created", fault.createdAt.iso8601)
            writer.member("message", fault.message)
            if call.caller.isAdmin, let details = fault.details { writer.member("details", details) }
        }
    }

    private func writeFullMembers(_ server: Instance, to writer: inout JSONWriter) {
        writer.member("key_name", server.keyName)
        // Every guest gets one, asked for or not.
        writer.member("config_drive", "True")
        writer.member("OS-EXT-AZ:availability_zone", zone(server))
        writer.member("OS-EXT-STS:task_state", server.taskState?.rawValue)
        writer.member("OS-EXT-STS:vm_state", server.vmState.rawValue)
        writer.member("OS-EXT-STS:power_state", server.powerState.rawValue)
        writer.member("OS-SRV-USG:launched_at", server.launchedAt?.iso8601MicrosecondsWithoutZone)
        writer.member("OS-SRV-USG:terminated_at", server.terminatedAt?.iso8601MicrosecondsWithoutZone)
        writer.array("os-extended-volumes:volumes_attached") { _ in }
        // Everybody sees it once everybody may set it.
        if call.isAtLeast(90) { writer.member("OS-EXT-SRV-ATTR:hostname", server.hostname) }
        guard showsHostFacts else { return }
        writer.member("OS-EXT-SRV-ATTR:host", server.host?.rawValue)
        writer.member("OS-EXT-SRV-ATTR:hypervisor_hostname", server.node ?? server.host?.rawValue)
        writer.member("OS-EXT-SRV-ATTR:instance_name", server.domainName)
        guard call.isAtLeast(3) else { return }
        writer.member("OS-EXT-SRV-ATTR:reservation_id", server.reservationID)
        writer.member("OS-EXT-SRV-ATTR:launch_index", server.launchIndex)
        if !call.isAtLeast(90) { writer.member("OS-EXT-SRV-ATTR:hostname", server.hostname) }
        writer.member("OS-EXT-SRV-ATTR:kernel_id", "")
        writer.member("OS-EXT-SRV-ATTR:ramdisk_id", "")
        writer.member("OS-EXT-SRV-ATTR:root_device_name", "/dev/vda")
        writer.member("OS-EXT-SRV-ATTR:user_data", server.userData)
    }

    private func zone(_ server: Instance) -> String {
        guard let host = server.host else { return server.availabilityZone ?? "" }
        return zones[host] ?? settings.availabilityZone
    }

    private func hostStatus(_ server: Instance) -> String {
        guard let host = server.host else { return "" }
        guard let service = services[host] else { return "UNKNOWN" }
        if service.isForcedDown { return "DOWN" }
        if service.isDisabled { return "MAINTENANCE" }
        return service.isUp(now: now, downAfter: settings.serviceDownTime) ? "UP" : "UNKNOWN"
    }

    /// Tells a project whether two of its servers share a host, and nothing else.
    private mutating func hostID(_ server: Instance) -> String {
        guard let host = server.host else { return "" }
        return Self.hostID(project: server.projectID, host: host, cache: &hostIDs)
    }

    static func hostID(project: ProjectID, host: HostName, cache: inout [String: String]) -> String {
        let text = project.rawValue + host.rawValue
        if let known = cache[text] { return known }
        let made = String(Hex.encode(digest(.sha256, of: Array(text.utf8))).prefix(56))
        cache[text] = made
        return made
    }
}

/// Which group a server is in, if any.
struct ServerGroupMember: Sendable {
    let group: ServerGroupID?

    /// `nil` for clients that are not told.
    init?(_ server: Instance, _ call: ComputeCall, _ parts: ComputeParts) async throws {
        guard call.isAtLeast(71) else { return nil }
        group = try await parts.database.serverGroups.groups(of: [server.id])[server.id]
    }
}

/// The server's interfaces that have an address, by network, networks in the order of their first interface.
func addressesByNetwork(_ server: Instance) -> [(network: String, interfaces: [NetworkInterface])] {
    var found: [(network: String, interfaces: [NetworkInterface])] = []
    for interface in server.interfaces where interface.ipv4Address != nil {
        if let index = found.firstIndex(where: { $0.network == interface.network }) {
            found[index].interfaces.append(interface)
        } else {
            found.append((interface.network, [interface]))
        }
    }
    return found
}
