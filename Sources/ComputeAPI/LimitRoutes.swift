internal import Database
internal import HTTP
internal import Model

/// What a project may have, and has.
extension ComputeRoutes {
    mutating func addLimits() {
        let parts = parts
        add(.get, "limits", rule: "limits") { call in
            try call.requireKnownQuery(["reserved", "tenant_id"])
            var project = call.caller.projectID
            if let named = call.query["tenant_id"], !named.isEmpty, named != project.rawValue {
                try call.require("limits:other_project")
                project = ProjectID(named)
            }
            let (limits, inUse) = try await parts.database.quotas.report(
                of: project, configured: parts.settings.quotas)
            let quotas = limits.project
            return jsonAnswer(capacity: 1_024) { writer in
                writer.object("limits") { writer in
                    // No rate limits: the member is there for clients that read it.
                    writer.array("rate") { _ in }
                    writer.object("absolute") { writer in
                        writer.member("maxTotalInstances", quotas[.instances])
                        writer.member("maxTotalCores", quotas[.cores])
                        writer.member("maxTotalRAMSize", quotas[.ram])
                        writer.member("maxServerMeta", quotas[.metadataItems])
                        writer.member("maxTotalKeypairs", quotas[.keyPairs])
                        writer.member("maxServerGroups", quotas[.serverGroups])
                        writer.member("maxServerGroupMembers", quotas[.serverGroupMembers])
                        writer.member("totalInstancesUsed", inUse[.instances])
                        writer.member("totalCoresUsed", inUse[.cores])
                        writer.member("totalRAMUsed", inUse[.ram])
                        writer.member("totalServerGroupsUsed", inUse[.serverGroups])
                        writeOldLimits(call, quotas, to: &writer)
                    }
                }
            }
        }
    }
}

/// Limits that later versions dropped.
private func writeOldLimits(_ call: ComputeCall, _ quotas: QuotaLimits, to writer: inout JSONWriter) {
    if !call.isAtLeast(36) {
        writer.member("maxTotalFloatingIps", quotas[.floatingIPs])
        writer.member("totalFloatingIpsUsed", 0)
        writer.member("maxSecurityGroups", quotas[.securityGroups])
        writer.member("totalSecurityGroupsUsed", 0)
        writer.member("maxSecurityGroupRules", quotas[.securityGroupRules])
    }
    if !call.isAtLeast(39) { writer.member("maxImageMeta", quotas[.metadataItems]) }
    if !call.isAtLeast(57) {
        writer.member("maxPersonality", quotas[.injectedFiles])
        writer.member("maxPersonalitySize", quotas[.injectedFileContentBytes])
    }
}
