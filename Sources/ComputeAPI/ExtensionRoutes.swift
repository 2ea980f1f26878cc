internal import HTTP
internal import Model

/// The list of extensions: a relic of the API before microversions; it names what is served.
extension ComputeRoutes {
    mutating func addExtensions() {
        add(.get, "extensions", rule: "extensions") { _ in
            jsonAnswer(capacity: 4_096) { writer in
                writer.array("extensions") { writer in
                    for item in Extension.all { writer.object { item.write(to: &$0) } }
                }
            }
        }
        add(.get, "extensions/{alias}", rule: "extensions") { call in
            let alias = call.parameter("alias")
            guard let item = Extension.all.first(where: { $0.alias == alias }) else {
                throw APIError.notFound("The extension \(alias) could not be found.")
            }
            return jsonAnswer { writer in
                writer.object("extension") { item.write(to: &$0) }
            }
        }
    }
}

private struct Extension: Sendable {
    let alias: String
    let name: String
    let description: String

    static let all = [
        Extension(alias: "flavor-manage", name: "FlavorManage", description: "Making and removing flavors."),
        Extension(alias: "os-aggregates", name: "Aggregates", description: "Sets of hosts that share properties."),
        Extension(alias: "os-availability-zone", name: "AvailabilityZone", description: "The zones hosts are in."),
        Extension(
            alias: "os-config-drive", name: "ConfigDrive", description: "A drive that tells the guest who it is."),
        Extension(alias: "os-console-output", name: "ConsoleOutput", description: "The end of a server's console."),
        Extension(
            alias: "os-create-server-ext", name: "Createserverext", description: "More members when making servers."),
        Extension(
            alias: "os-extended-availability-zone", name: "ExtendedAvailabilityZone",
            description: "Servers show their zone."),
        Extension(
            alias: "os-extended-server-attributes", name: "ExtendedServerAttributes",
            description: "Administrators see more of servers."),
        Extension(alias: "os-extended-status", name: "ExtendedStatus", description: "Servers show their states."),
        Extension(
            alias: "os-flavor-extra-specs", name: "FlavorExtraSpecs", description: "Flavors carry named values."),
        Extension(alias: "os-hypervisors", name: "Hypervisors", description: "What the hosts have."),
        Extension(alias: "os-instance-actions", name: "InstanceActions", description: "What was done to servers."),
        Extension(alias: "os-keypairs", name: "Keypairs", description: "Public keys that are written into servers."),
        Extension(alias: "os-multiple-create", name: "MultipleCreate", description: "Several servers by one call."),
        Extension(
            alias: "os-server-groups", name: "ServerGroups", description: "Servers that run together, or apart."),
        Extension(alias: "os-server-start-stop", name: "ServerStartStop", description: "Starting and stopping."),
        Extension(alias: "os-server-usage", name: "ServerUsage", description: "Servers show when they ran."),
        Extension(alias: "os-services", name: "Services", description: "The services and whether they are alive."),
        Extension(alias: "os-used-limits", name: "UsedLimits", description: "Limits show what is used."),
        Extension(alias: "os-user-data", name: "UserData", description: "Data for the guest."),
    ]

    func write(to writer: inout JSONWriter) {
        writer.member("name", name)
        writer.member("alias", alias)
        writer.member("description", description)
        writer.member("namespace", "http://docs.openstack.org/compute/ext/fake_xml")
        writer.member("updated", "2014-12-03T00:00:00Z")
        writer.array("links") { _ in }
    }
}
