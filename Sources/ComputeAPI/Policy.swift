/// Who may do what: one table, with Nova's rule names and the defaults of its project-scoped policy.
enum Policy {
    /// What a rule asks of the caller. Another project's things never get as far as a rule: they are not found.
    enum Rule: Sendable, Hashable {
        /// Every authenticated caller.
        case anyone
        case reader, member, manager, admin
        /// Readers of the project that is asked about, and administrators.
        case ownReader
        /// The user whose thing it is, or an administrator.
        case owner

        func admits(_ caller: APICaller, owner: Bool = true) -> Bool {
            switch self {
            case .anyone: true
            case .reader: caller.roles.contains("reader") || caller.isAdmin
            case .ownReader: owner && caller.roles.contains("reader") || caller.isAdmin
            case .member: caller.roles.contains("member") || caller.isAdmin
            case .manager: caller.roles.contains("manager") || caller.isAdmin
            case .admin: caller.isAdmin
            case .owner: owner || caller.isAdmin
            }
        }
    }

    static let rules: [String: Rule] = [
        "servers:index": .reader,
        "servers:detail": .reader,
        "servers:index:get_all_tenants": .admin,
        "servers:allow_all_filters": .admin,
        "servers:show": .reader,
        "servers:show:host_status": .admin,
        "servers:create": .member,
        "servers:create:requested_destination": .admin,
        "servers:create:forced_host": .admin,
        "servers:create:zero_disk_flavor": .admin,
        "servers:update": .member,
        "servers:delete": .member,
        "servers:start": .member,
        "servers:stop": .member,
        "servers:reboot": .member,
        "servers:rebuild": .member,
        "servers:resize": .member,
        "servers:confirm_resize": .member,
        "servers:revert_resize": .member,
        "servers:create_image": .member,
        "servers:trigger_crash_dump": .member,
        "os-extended-server-attributes": .admin,
        "server-metadata:index": .reader,
        "server-metadata:show": .reader,
        "server-metadata:create": .member,
        "server-metadata:update": .member,
        "server-metadata:update_all": .member,
        "server-metadata:delete": .member,
        "os-server-tags:index": .reader,
        "os-server-tags:show": .reader,
        "os-server-tags:update": .member,
        "os-server-tags:update_all": .member,
        "os-server-tags:delete": .member,
        "os-server-tags:delete_all": .member,
        "ips:index": .reader,
        "ips:show": .reader,
        "os-console-output": .member,
        "os-instance-actions:list": .reader,
        "os-instance-actions:show": .reader,
        "os-instance-actions:events": .admin,
        "os-pause-server:pause": .member,
        "os-pause-server:unpause": .member,
        "os-suspend-server:suspend": .member,
        "os-suspend-server:resume": .member,
        "os-lock-server:lock": .member,
        "os-lock-server:unlock": .member,
        "os-lock-server:unlock:unlock_override": .admin,
        "os-rescue": .member,
        "os-unrescue": .member,
        "os-shelve:shelve": .member,
        "os-shelve:shelve_offload": .admin,
        "os-shelve:unshelve": .member,
        "os-shelve:unshelve_to_host": .admin,
        "os-create-backup": .member,
        "os-admin-password": .member,
        "os-security-groups:add": .member,
        "os-security-groups:remove": .member,
        "os-admin-actions:reset_state": .admin,
        "os-admin-actions:inject_network_info": .admin,
        "os-admin-actions:reset_network": .admin,
        "os-deferred-delete:force": .member,
        "os-deferred-delete:restore": .member,
        "os-evacuate": .admin,
        "os-migrate-server:migrate": .manager,
        "os-migrate-server:migrate:host": .admin,
        "os-migrations:index": .admin,
        "servers:migrations:index": .admin,
        "servers:migrations:show": .admin,
        "servers:migrations:force_complete": .admin,
        "servers:migrations:delete": .admin,
        "os-migrate-server:migrate_live": .manager,
        "os-migrate-server:migrate_live:host": .admin,
        "os-remote-consoles": .member,
        "os-server-diagnostics": .admin,
        "servers:topology:index": .reader,
        "servers:topology:host:index": .admin,
        "os-attach-interfaces:list": .reader,
        "os-attach-interfaces:show": .reader,
        "os-attach-interfaces:create": .member,
        "os-attach-interfaces:delete": .member,
        "os-multinic:add": .member,
        "os-multinic:remove": .member,
        "os-floating-ips:add": .member,
        "os-floating-ips:remove": .member,
        "flavors:index": .anyone,
        "flavors:show": .anyone,
        "os-flavor-manage:create": .admin,
        "os-flavor-manage:update": .admin,
        "os-flavor-manage:delete": .admin,
        "os-flavor-access": .admin,
        "os-flavor-access:add_tenant_access": .admin,
        "os-flavor-access:remove_tenant_access": .admin,
        "os-flavor-extra-specs:index": .reader,
        "os-flavor-extra-specs:show": .reader,
        "os-flavor-extra-specs:create": .admin,
        "os-flavor-extra-specs:update": .admin,
        "os-flavor-extra-specs:delete": .admin,
        "os-keypairs:index": .owner,
        "os-keypairs:show": .owner,
        "os-keypairs:create": .owner,
        "os-keypairs:delete": .owner,
        "os-services:list": .admin,
        "os-services:update": .admin,
        "os-services:delete": .admin,
        "os-hypervisors:list": .admin,
        "os-hypervisors:list-detail": .admin,
        "os-hypervisors:show": .admin,
        "os-hypervisors:statistics": .admin,
        "os-hypervisors:uptime": .admin,
        "os-hypervisors:search": .admin,
        "os-hypervisors:servers": .admin,
        "compute:aggregates:images": .admin,
        "os-aggregates:index": .admin,
        "os-aggregates:create": .admin,
        "os-aggregates:show": .admin,
        "os-aggregates:update": .admin,
        "os-aggregates:delete": .admin,
        "os-aggregates:add_host": .admin,
        "os-aggregates:remove_host": .admin,
        "os-aggregates:set_metadata": .admin,
        "os-server-groups:index": .reader,
        "os-server-groups:index:all_projects": .admin,
        "os-server-groups:create": .member,
        "os-server-groups:show": .reader,
        "os-server-groups:delete": .member,
        "limits": .anyone,
        "limits:other_project": .admin,
        "os-quota-sets:show": .ownReader,
        "os-quota-sets:detail": .ownReader,
        "os-quota-sets:defaults": .anyone,
        "os-quota-sets:update": .admin,
        "os-quota-sets:delete": .admin,
        "os-quota-class-sets:show": .admin,
        "os-quota-class-sets:update": .admin,
        "os-instance-usage-audit-log:list": .admin,
        "os-instance-usage-audit-log:show": .admin,
        "os-availability-zone:list": .reader,
        "os-availability-zone:detail": .admin,
        "extensions": .anyone,
        "network-proxies": .anyone,
        "apus:guest-agent": .member,
        "apus:tasks": .admin,
        "apus:hosts": .admin,
    ]

    /// Throws 403 naming the rule unless it admits the caller. A rule that the table does not have admits nobody.
    static func require(_ name: String, _ caller: APICaller, owner: Bool = true) throws(APIError) {
        guard allows(name, caller, owner: owner) else {
            throw .forbidden("Policy doesn't allow os_compute_api:\(name) to be performed.")
        }
    }

    static func allows(_ name: String, _ caller: APICaller, owner: Bool = true) -> Bool {
        rules[name]?.admits(caller, owner: owner) ?? false
    }
}
