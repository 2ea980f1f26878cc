/// Which cloud to speak to, and as whom.
struct CloudSettings: Sendable, Hashable {
    var authURL: String
    var username: String
    var password: String
    var projectName: String
    var userDomainName = "Default"
    var projectDomainName = "Default"
    /// `nil` takes the catalog's first endpoint.
    var regionName: String?
    /// A file of PEM certificates to trust instead of the system's.
    var caFile: String?
    /// Where the settings come from, for messages: "OS_* variables", "cloud 'apus' of /etc/openstack/clouds.yaml".
    var origin: String

    /// Picks the settings as the openstack client does: `--os-cloud` or `OS_CLOUD` names a cloud of clouds.yaml, else
    /// the `OS_*` variables, else the file that `apus up` wrote on this machine.
    static func load(
        cloud: String?, environment: [String: String], readFile: (String) throws -> String?
    ) throws(CommandError) -> CloudSettings {
        let named = cloud ?? environment["OS_CLOUD"].flatMap { $0.isEmpty ? nil : $0 }
        if named == nil, environment["OS_AUTH_URL"] != nil { return try fromVariables(environment) }
        for path in candidates(environment) {
            let text: String?
            do { text = try readFile(path) } catch { throw .failure("\(path) cannot be read: \(describe(error)).") }
            guard let text else { continue }
            return try fromFile(text, path: path, cloud: named)
        }
        if let named {
            throw .usage(
                "There is no clouds.yaml with a cloud '\(named)'. Looked at: \(candidates(environment).joined(separator: ", "))."
            )
        }
        throw .usage(
            """
            Which cloud? Load its openrc (`. \(defaultStatePath)/openrc`), set OS_AUTH_URL and its companions, or name \
            a cloud of clouds.yaml with --os-cloud.
            """)
    }

    static let defaultStatePath = "/var/lib/apus"

    private static func candidates(_ environment: [String: String]) -> [String] {
        var paths: [String] = []
        if let file = environment["OS_CLIENT_CONFIG_FILE"], !file.isEmpty { paths.append(file) }
        paths.append("clouds.yaml")
        if let home = environment["HOME"], !home.isEmpty { paths.append("\(home)/.config/openstack/clouds.yaml") }
        return paths + ["/etc/openstack/clouds.yaml", "\(defaultStatePath)/clouds.yaml"]
    }

    private static func fromVariables(_ environment: [String: String]) throws(CommandError) -> CloudSettings {
        func required(_ name: String) throws(CommandError) -> String {
            guard let value = environment[name], !value.isEmpty else {
                throw .usage("OS_AUTH_URL is set, but \(name) is not.")
            }
            return value
        }
        func optional(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
        let given = optional("OS_PROJECT_NAME") ?? optional("OS_TENANT_NAME")
        guard let project = given else { throw .usage("OS_AUTH_URL is set, but OS_PROJECT_NAME is not.") }
        return CloudSettings(
            authURL: try required("OS_AUTH_URL"), username: try required("OS_USERNAME"),
            password: try required("OS_PASSWORD"),
            projectName: project,
            userDomainName: optional("OS_USER_DOMAIN_NAME") ?? optional("OS_DEFAULT_DOMAIN") ?? "Default",
            projectDomainName: optional("OS_PROJECT_DOMAIN_NAME") ?? optional("OS_DEFAULT_DOMAIN") ?? "Default",
            regionName: optional("OS_REGION_NAME"), caFile: optional("OS_CACERT"), origin: "the OS_* variables")
    }

    private static func fromFile(_ text: String, path: String, cloud: String?) throws(CommandError) -> CloudSettings {
        let document: YAML
        do { document = try YAML(parsing: text) } catch { throw .failure("\(path): \(error).") }
        guard let clouds = document["clouds"]?.members, !clouds.isEmpty else {
            throw .failure("\(path) names no clouds.")
        }
        let names = clouds.keys.sorted()
        guard let name = cloud ?? (names.count == 1 ? names[0] : nil) else {
            throw .usage("\(path) names several clouds: choose one with --os-cloud (\(names.joined(separator: ", "))).")
        }
        guard let entry = clouds[name] else {
            throw .usage("\(path) has no cloud '\(name)'.\(suggestion(name, among: names))")
        }
        func value(_ key: String) -> String? {
            (entry["auth"]?[key] ?? entry[key])?.text.flatMap { $0.isEmpty ? nil : $0 }
        }
        func required(_ key: String) throws(CommandError) -> String {
            guard let value = value(key) else { throw .failure("\(path): cloud '\(name)' has no \(key).") }
            return value
        }
        if let kind = value("auth_type"), !["password", "v3password"].contains(kind) {
            throw .failure("\(path): cloud '\(name)' has auth_type '\(kind)'; only 'password' is read here.")
        }
        return CloudSettings(
            authURL: try required("auth_url"), username: try required("username"), password: try required("password"),
            projectName: try required("project_name"),
            userDomainName: value("user_domain_name") ?? "Default",
            projectDomainName: value("project_domain_name") ?? "Default", regionName: value("region_name"),
            caFile: value("cacert"), origin: "cloud '\(name)' of \(path)")
    }
}
