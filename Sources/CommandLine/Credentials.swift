internal import CSystem
internal import Crypto

/// The administrator's login that the first `apus up` makes, in the two forms that clients read.
struct AdminCredentials: Sendable, Hashable {
    static let username = "admin"
    static let projectName = "admin"

    var password: String
    var authURL: String
    var region = "RegionOne"
    /// The certificate authority's file, for an API with TLS.
    var caFile: String?

    /// 24 random bytes as text.
    static func makePassword() -> String { Base64.encodeURL(randomBytes(24)) }

    var openrc: String {
        """
        # Written by `apus up`. Load it with: . openrc
        unset OS_CLOUD OS_TOKEN
        export OS_AUTH_URL=\(authURL)
        export OS_USERNAME=\(Self.username)
        export OS_PASSWORD='\(password)'
        export OS_PROJECT_NAME=\(Self.projectName)
        export OS_USER_DOMAIN_NAME=Default
        export OS_PROJECT_DOMAIN_NAME=Default
        export OS_REGION_NAME=\(region)
        export OS_IDENTITY_API_VERSION=3

        """ + (caFile.map { "export OS_CACERT='\($0)'\n" } ?? "")
    }

    var cloudsYAML: String {
        """
        # Written by `apus up`. Use it with: --os-cloud apus
        clouds:
          apus:
            auth:
              auth_url: \(authURL)
              username: \(Self.username)
              password: "\(password)"
              project_name: \(Self.projectName)
              user_domain_name: Default
              project_domain_name: Default
            region_name: \(region)
            identity_api_version: "3"

        """ + (caFile.map { "    cacert: \"\($0)\"\n" } ?? "")
    }

    /// Writes both files into the state folder, readable by their owner only.
    func write(to statePath: String) throws(FileError) {
        try writePrivateFile("\(statePath)/openrc", openrc)
        try writePrivateFile("\(statePath)/clouds.yaml", cloudsYAML)
    }

    /// The password that an earlier start wrote; `nil` when there is none.
    static func savedPassword(in statePath: String) throws -> String? {
        guard let text = try readTextFile("\(statePath)/clouds.yaml") else { return nil }
        return try YAML(parsing: text)["clouds"]?["apus"]?["auth"]?["password"]?.text
    }
}
