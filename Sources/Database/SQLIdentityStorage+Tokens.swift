internal import Identity
internal import Model
internal import SQL

/// Roles, who has them where, and tokens.
extension SQLIdentityStorage {
    func insert(_ role: RoleRecord) async throws {
        let record = SQLValue.text(try Record.encode(role))
        try await database.write { connection in
            try refusingDuplicates("role", role.name) {
                try connection.execute(
                    "INSERT INTO identity_roles (id, name, record) VALUES (?, ?, ?)",
                    [.text(role.id), .text(role.name), record])
            }
        }
    }

    func findRole(id: String) async throws -> RoleRecord? {
        try await first("identity_roles WHERE id = ?", [.text(id)])
    }

    func listRoles() async throws -> [RoleRecord] {
        try await all("identity_roles ORDER BY name, id", [])
    }

    func update(_ role: RoleRecord) async throws -> Bool {
        let record = SQLValue.text(try Record.encode(role))
        return try await database.write { connection in
            try refusingDuplicates("role", role.name) {
                try connection.execute(
                    "UPDATE identity_roles SET name = ?, record = ? WHERE id = ?",
                    [.text(role.name), record, .text(role.id)]) > 0
            }
        }
    }

    func deleteRole(id: String) async throws -> Bool {
        try await database.write { connection in
            try connection.execute("DELETE FROM identity_assignments WHERE role_id = ?", [.text(id)])
            return try connection.execute("DELETE FROM identity_roles WHERE id = ?", [.text(id)]) > 0
        }
    }

    func insert(_ assignment: RoleAssignment) async throws {
        try await database.write { connection in
            try connection.execute(
                """
                INSERT INTO identity_assignments (user_id, scope_kind, scope_target, role_id) VALUES (?, ?, ?, ?)
                ON CONFLICT (user_id, scope_kind, scope_target, role_id) DO NOTHING
                """, assignment.values)
        }
    }

    func listAssignments(
        userID: UserID?, scope: IdentityScope?, roleID: String?
    ) async throws -> [RoleAssignment] {
        var conditions: [String] = []
        var values: [SQLValue] = []
        if let userID {
            conditions.append("user_id = ?")
            values.append(.text(userID.rawValue))
        }
        if let scope {
            conditions.append("scope_kind = ? AND scope_target = ?")
            values += [.text(scope.kind), .text(scope.target)]
        }
        if let roleID {
            conditions.append("role_id = ?")
            values.append(.text(roleID))
        }
        let filter = conditions.isEmpty ? "" : " WHERE " + conditions.joined(separator: " AND ")
        let bound = values
        return try await database.read { connection in
            try connection.query(
                "SELECT user_id, scope_kind, scope_target, role_id FROM identity_assignments" + filter, bound
            ) { row in
                guard let scope = IdentityScope(kind: row.text(1), target: row.text(2)) else {
                    throw Failure(.unsupportedVersion, "a role assignment has the unknown scope \(row.text(1))")
                }
                return RoleAssignment(userID: UserID(row.text(0)), scope: scope, roleID: row.text(3))
            }
        }
    }

    func delete(_ assignment: RoleAssignment) async throws -> Bool {
        try await database.write { connection in
            try connection.execute(
                """
                DELETE FROM identity_assignments
                WHERE user_id = ? AND scope_kind = ? AND scope_target = ? AND role_id = ?
                """, assignment.values) > 0
        }
    }

    func insert(_ token: TokenRecord) async throws {
        let values: [SQLValue] = [
            .text(token.hash), .text(token.userID.rawValue), SQLValue(token.scope?.kind),
            SQLValue(token.scope?.target), .integer(token.expiresAt.microseconds), .text(try Record.encode(token)),
        ]
        try await database.write { connection in
            try refusingDuplicates("token", token.hash) {
                try connection.execute(
                    """
                    INSERT INTO identity_tokens (hash, user_id, scope_kind, scope_target, expires_at, record)
                    VALUES (?, ?, ?, ?, ?, ?)
                    """, values)
            }
        }
    }

    func findToken(hash: String) async throws -> TokenRecord? {
        try await first("identity_tokens WHERE hash = ?", [.text(hash)])
    }

    func deleteToken(hash: String) async throws -> Bool {
        try await database.write { connection in
            try connection.execute("DELETE FROM identity_tokens WHERE hash = ?", [.text(hash)]) > 0
        }
    }

    func deleteTokens(userID: UserID, keeping: String?) async throws -> Int {
        try await database.write { connection in
            try connection.execute(
                "DELETE FROM identity_tokens WHERE user_id = ? AND hash <> ?",
                [.text(userID.rawValue), .text(keeping ?? "")])
        }
    }

    func deleteTokens(expiredBefore moment: Timestamp) async throws -> Int {
        try await database.write { connection in
            try connection.execute(
                "DELETE FROM identity_tokens WHERE expires_at < ?", [.integer(moment.microseconds)])
        }
    }
}

extension RoleAssignment {
    fileprivate var values: [SQLValue] {
        [.text(userID.rawValue), .text(scope.kind), .text(scope.target), .text(roleID)]
    }
}
