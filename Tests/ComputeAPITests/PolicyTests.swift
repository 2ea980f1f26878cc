import ComputeAPI
import HTTP
import Model
import Testing

@Suite("Who may do what")
struct PolicyTests {
    enum Least: Int, Sendable { case anyone, reader, member, manager, admin }

    /// Every route below `/v2.1` with the lowest role that may call it in its own project.
    static let routes: [(HTTPMethod, String, Least)] = [
        (.get, "extensions", .anyone), (.get, "extensions/{alias}", .anyone), (.get, "limits", .anyone),
        (.get, "servers", .reader), (.get, "servers/detail", .reader), (.post, "servers", .member),
        (.get, "servers/{id}", .reader), (.put, "servers/{id}", .member), (.delete, "servers/{id}", .member),
        (.post, "servers/{id}/action", .anyone), (.get, "servers/{id}/metadata", .reader),
        (.post, "servers/{id}/metadata", .member), (.put, "servers/{id}/metadata", .member),
        (.get, "servers/{id}/metadata/{key}", .reader), (.put, "servers/{id}/metadata/{key}", .member),
        (.delete, "servers/{id}/metadata/{key}", .member), (.get, "servers/{id}/tags", .reader),
        (.put, "servers/{id}/tags", .member), (.delete, "servers/{id}/tags", .member),
        (.get, "servers/{id}/tags/{tag}", .reader), (.put, "servers/{id}/tags/{tag}", .member),
        (.delete, "servers/{id}/tags/{tag}", .member), (.get, "servers/{id}/ips", .reader),
        (.get, "servers/{id}/ips/{network}", .reader), (.get, "servers/{id}/os-instance-actions", .reader),
        (.get, "servers/{id}/migrations", .admin), (.get, "servers/{id}/migrations/{migration}", .admin),
        (.post, "servers/{id}/migrations/{migration}/action", .admin),
        (.delete, "servers/{id}/migrations/{migration}", .admin), (.get, "os-migrations", .admin),
        (.get, "servers/{id}/os-instance-actions/{request}", .reader), (.post, "servers/{id}/remote-consoles", .member),
        (.get, "servers/{id}/diagnostics", .admin), (.get, "servers/{id}/topology", .reader),
        (.get, "servers/{id}/os-interface", .reader),
        (.post, "servers/{id}/os-interface", .member), (.get, "servers/{id}/os-interface/{port}", .reader),
        (.delete, "servers/{id}/os-interface/{port}", .member), (.get, "flavors", .anyone),
        (.get, "flavors/detail", .anyone), (.get, "flavors/{id}", .anyone), (.post, "flavors", .admin),
        (.put, "flavors/{id}", .admin), (.delete, "flavors/{id}", .admin), (.post, "flavors/{id}/action", .anyone),
        (.get, "flavors/{id}/os-flavor-access", .admin), (.post, "os-aggregates/{id}/images", .admin),
        (.get, "flavors/{id}/os-extra_specs", .reader), (.post, "flavors/{id}/os-extra_specs", .admin),
        (.get, "flavors/{id}/os-extra_specs/{key}", .reader), (.put, "flavors/{id}/os-extra_specs/{key}", .admin),
        (.delete, "flavors/{id}/os-extra_specs/{key}", .admin), (.get, "os-keypairs", .anyone),
        (.post, "os-keypairs", .anyone), (.get, "os-keypairs/{name}", .anyone),
        (.delete, "os-keypairs/{name}", .anyone),
        (.get, "os-services", .admin), (.put, "os-services/{id}", .admin), (.delete, "os-services/{id}", .admin),
        (.get, "os-availability-zone", .reader),
        (.get, "os-availability-zone/detail", .admin), (.get, "os-aggregates", .admin),
        (.post, "os-aggregates", .admin), (.get, "os-aggregates/{id}", .admin), (.put, "os-aggregates/{id}", .admin),
        (.delete, "os-aggregates/{id}", .admin), (.post, "os-aggregates/{id}/action", .anyone),
        (.get, "os-instance_usage_audit_log", .admin), (.get, "os-instance_usage_audit_log/{before}", .admin),
        (.get, "os-server-groups", .reader),
        (.post, "os-server-groups", .member), (.get, "os-server-groups/{id}", .reader),
        (.delete, "os-server-groups/{id}", .member),
        (.get, "os-hypervisors", .admin), (.get, "os-hypervisors/detail", .admin),
        (.get, "os-hypervisors/statistics", .admin), (.get, "os-hypervisors/{id}", .admin),
        (.get, "os-hypervisors/{id}/uptime", .admin), (.get, "os-hypervisors/{id}/search", .admin),
        (.get, "os-hypervisors/{id}/servers", .admin), (.get, "os-quota-sets/{id}", .reader),
        (.get, "os-quota-sets/{id}/detail", .reader), (.get, "os-quota-sets/{id}/defaults", .anyone),
        (.put, "os-quota-sets/{id}", .admin), (.delete, "os-quota-sets/{id}", .admin),
        (.get, "os-quota-class-sets/{id}", .admin), (.put, "os-quota-class-sets/{id}", .admin),
    ]

    /// Every action with the lowest role that may ask for it.
    static let actions: [(String, Least)] = [
        ("os-start", .member), ("os-stop", .member), ("reboot", .member), ("os-getConsoleOutput", .member),
        ("pause", .member), ("unpause", .member), ("suspend", .member), ("resume", .member), ("lock", .member),
        ("unlock", .member), ("resize", .member), ("confirmResize", .member), ("revertResize", .member),
        ("rebuild", .member), ("rescue", .member), ("unrescue", .member), ("shelve", .member), ("unshelve", .member),
        ("createImage", .member), ("createBackup", .member), ("changePassword", .member),
        ("addSecurityGroup", .member), ("removeSecurityGroup", .member), ("forceDelete", .member),
        ("restore", .member), ("trigger_crash_dump", .member), ("migrate", .manager), ("os-migrateLive", .manager),
        ("shelveOffload", .admin), ("os-resetState", .admin), ("injectNetworkInfo", .admin), ("resetNetwork", .admin),
        ("evacuate", .admin),
    ]

    private static let roles: [(String, Least)] = [
        ("nobody", .anyone), ("reader", .reader), ("member", .member), ("manager", .manager), ("admin", .admin),
    ]

    private static func version(_ pattern: String) -> String {
        if pattern.hasSuffix("/search") || pattern.hasSuffix("os-hypervisors/{id}/servers") { return "2.30" }
        return pattern.hasSuffix("/statistics") || pattern.hasSuffix("/uptime") ? "2.87" : "2.100"
    }

    private static func path(_ pattern: String, server: String) -> String {
        pattern.replacing("servers/{id}", with: "servers/" + server)
            .replacing("flavors/{id}", with: "flavors/42")
            .replacing("os-hypervisors/{id}", with: "os-hypervisors/6f9619ff-8b86-4011-b42d-00c04fc964ff")
            .replacing("os-quota-sets/{id}", with: "os-quota-sets/p1")
            .replacing("os-services/{id}", with: "os-services/6f9619ff-8b86-4011-b42d-00c04fc964ff")
            .replacing("{", with: "").replacing("}", with: "")
    }

    @Test("The table below names every route that there is")
    func complete() async throws {
        let cloud = try await ComputeFixture()
        let known = Set(Self.routes.map { "\($0.0.rawValue) /v2.1/\($0.1)" })
        let found = cloud.router.routes.filter { $0.1.hasPrefix("/v2.1/") && !isNetworkProxy($0.1) }
            .map { "\($0.0.rawValue) \($0.1)" }
        #expect(Set(found) == known)
    }

    private func isNetworkProxy(_ path: String) -> Bool {
        ["os-networks", "os-tenant-networks", "os-security-groups", "os-floating-ips"].contains { path.contains($0) }
    }

    @Test("Each route is open from its role on, and 403 naming the rule below it", arguments: routes)
    func roles(method: HTTPMethod, pattern: String, least: Least) async throws {
        let cloud = try await ComputeFixture()
        try await cloud.addHost()
        for (role, rank) in Self.roles {
            let server = try await cloud.makeActive()
            let reply = await cloud.send(
                method, Self.path(pattern, server: server), as: "p1/\(role)", at: Self.version(pattern))
            let shown = "\(method.rawValue) \(pattern) as \(role): \(reply.status) \(reply.message)"
            if rank.rawValue < least.rawValue {
                #expect(
                    reply.status == 403 && reply.message.hasPrefix("Policy doesn't allow os_compute_api:"), "\(shown)")
                #expect(reply.json["forbidden"]?["code"] == 403)
            } else {
                #expect(reply.status != 403 && reply.status != 401, "\(shown)")
            }
        }
    }

    @Test("Each action is open from its role on, and 403 below it", arguments: actions)
    func actionRoles(action: String, least: Least) async throws {
        let cloud = try await ComputeFixture()
        for (role, rank) in Self.roles {
            let server = try await cloud.makeActive()
            let reply = await cloud.send(
                .post, "servers/\(server)/action", as: "p1/\(role)", at: "2.100", [action: .null])
            #expect((reply.status == 403) == (rank.rawValue < least.rawValue), "\(action) as \(role): \(reply.status)")
        }
    }

    @Test(
        "Another project's server is not found, whatever is asked",
        arguments: routes.filter { $0.1.hasPrefix("servers/{id}") })
    func others(method: HTTPMethod, pattern: String, least: Least) async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.makeActive()
        for token in ["p2/reader", "p2/member", "p2/manager"] {
            let reply = await cloud.send(
                method, Self.path(pattern, server: server), as: token, at: "2.100", ["reboot": ["type": "HARD"]])
            #expect(reply.status == 404, "\(method.rawValue) \(pattern) as \(token)")
        }
        #expect(try await cloud.instance(server)?.taskState == nil)
    }

    @Test("Without a token every route is 401", arguments: routes)
    func anonymous(method: HTTPMethod, pattern: String, least: Least) async throws {
        let cloud = try await ComputeFixture()
        let reply = await cloud.send(method, Self.path(pattern, server: "x"), as: nil, at: "2.100")
        #expect(reply.status == 401)
        #expect(await cloud.send(.get, "unknown", as: nil).status == 401)
    }

    @Test("An administrator sees every project's servers; others are refused the wider list")
    func allTenants() async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.makeActive()
        #expect(await cloud.send(.get, "servers/\(server)", as: "p0/admin").status == 200)
        let all = await cloud.send(.get, "servers?all_tenants=1", as: "p0/admin")
        #expect(all.json["servers"]?.list?.count == 1)
        #expect(await cloud.send(.get, "servers", as: "p0/admin").json["servers"]?.list?.isEmpty == true)
        #expect(await cloud.send(.get, "servers?all_tenants=", as: "p1/manager").status == 403)
        #expect(await cloud.send(.get, "servers?all_tenants=false", as: "p1/member").status == 200)
    }
}
