internal import Database
internal import HTTP
internal import Model

/// What a project may have, and has.
extension ComputeRoutes {
    mutating func addLimits() {
        let parts = parts
        add(.get, "limits", rule: "limits") { call in
            var project = call.caller.projectID
            if let named = call.query["tenant_id"], !named.isEmpty, named != project.rawValue {
                try call.require("limits:other_project")
                project = ProjectID(named)
            }
            let usage = try await parts.database.instances.usage(of: project)
            let quotas = parts.settings.quotas
            return jsonAnswer(capacity: 1_024) { writer in
                writer.object("limits") { writer in
                    // No rate limits: the member is there for clients that read it.
                    writer.array("rate") { _ in }
                    writer.object("absolute") { writer in
                        writer.member("maxTotalInstances", quotas.instances)
                        writer.member("maxTotalCores", quotas.cores)
                        writer.member("maxTotalRAMSize", quotas.memoryMiB)
                        writer.member("maxServerMeta", quotas.metadataItems)
                        writer.member("maxTotalKeypairs", quotas.keyPairs)
                        writer.member("totalInstancesUsed", usage.instances)
                        writer.member("totalCoresUsed", usage.cores)
                        writer.member("totalRAMUsed", usage.memoryMiB)
                        writeOldLimits(call, quotas, to: &writer)
                    }
                }
            }
        }
    }
}

/// Limits that later versions dropped. What is not served admits nothing.
private func writeOldLimits(_ call: ComputeCall, _ quotas: APISettings.Quotas, to writer: inout JSONWriter) {
    if !call.isAtLeast(36) {
        writer.member("maxTotalFloatingIps", 0)
        writer.member("totalFloatingIpsUsed", 0)
        writer.member("maxSecurityGroups", 0)
        writer.member("totalSecurityGroupsUsed", 0)
        writer.member("maxSecurityGroupRules", 0)
    }
    if !call.isAtLeast(39) { writer.member("maxImageMeta", quotas.metadataItems) }
    if !call.isAtLeast(57) {
        writer.member("maxPersonality", 0)
        writer.member("maxPersonalitySize", 0)
    }
}
