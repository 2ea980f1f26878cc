import Testing

@testable import CommandLine

@Suite("Which cloud, and as whom")
struct CloudSettingsTests {
    private static let file = """
        # Of the team.
        clouds:
          apus:
            auth:
              auth_url: "http://127.0.0.1:8774/identity/v3"   # here
              username: admin
              password: 'it''s #1: secret'
              project_name: admin
            region_name: RegionOne
            regions: [ ]
          other:
            auth: {}
        """.replacing("[ ]", with: "[]")

    private func load(
        cloud: String? = nil, _ environment: [String: String] = [:], files: [String: String] = [:]
    ) throws(CommandError) -> CloudSettings {
        try CloudSettings.load(cloud: cloud, environment: environment) { files[$0] }
    }

    @Test("The variables decide when no cloud is named")
    func variables() throws {
        let environment = [
            "OS_AUTH_URL": "http://h:1/identity", "OS_USERNAME": "u", "OS_PASSWORD": "p", "OS_PROJECT_NAME": "t",
            "OS_USER_DOMAIN_NAME": "D", "OS_REGION_NAME": "R", "OS_CACERT": "/ca.pem",
        ]
        let settings = try load(environment, files: ["clouds.yaml": Self.file])
        #expect(
            settings
                == CloudSettings(
                    authURL: "http://h:1/identity", username: "u", password: "p", projectName: "t", userDomainName: "D",
                    projectDomainName: "Default", regionName: "R", caFile: "/ca.pem", origin: "the OS_* variables"))
    }

    @Test("A variable that is missing is named", arguments: ["OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME"])
    func missing(name: String) {
        var environment = ["OS_AUTH_URL": "http://h", "OS_USERNAME": "u", "OS_PASSWORD": "p", "OS_PROJECT_NAME": "t"]
        environment[name] = nil
        #expect(throws: CommandError.usage("OS_AUTH_URL is set, but \(name) is not.")) { _ = try load(environment) }
    }

    @Test("A cloud is read from the first clouds.yaml, quotes and comments with it")
    func named() throws {
        let files = ["/h/.config/openstack/clouds.yaml": Self.file, "/etc/openstack/clouds.yaml": "clouds: {}"]
        let settings = try load(cloud: "apus", ["HOME": "/h", "OS_AUTH_URL": "http://else"], files: files)
        #expect(settings.authURL == "http://127.0.0.1:8774/identity/v3")
        #expect(settings.password == "it's #1: secret")
        #expect(settings.regionName == "RegionOne")
        #expect(settings.origin == "cloud 'apus' of /h/.config/openstack/clouds.yaml")
    }

    @Test("What `apus up` wrote can be read back, whatever the password holds")
    func ownFile() throws {
        let credentials = AdminCredentials(password: "a-B_9", authURL: "http://127.0.0.1:8774/identity/v3")
        let settings = try load(files: ["/var/lib/apus/clouds.yaml": credentials.cloudsYAML])
        #expect(settings.password == "a-B_9")
        #expect(settings.username == "admin")
        #expect(settings.authURL == credentials.authURL)
    }

    @Test(
        "A choice that cannot be made is explained",
        arguments: [
            (nil, "clouds.yaml names several clouds: choose one with --os-cloud (apus, other)."),
            ("apsu", "clouds.yaml has no cloud 'apsu'. Did you mean apus?"),
        ] as [(String?, String)])
    func choices(cloud: String?, sentence: String) {
        #expect(throws: CommandError.usage(sentence)) { _ = try load(cloud: cloud, files: ["clouds.yaml": Self.file]) }
    }

    @Test("A cloud without a password, and one with another kind of login, are refused with their file")
    func incomplete() {
        #expect(throws: CommandError.failure("clouds.yaml: cloud 'other' has no auth_url.")) {
            _ = try load(cloud: "other", files: ["clouds.yaml": Self.file])
        }
        let token = "clouds:\n  x:\n    auth_type: v3token\n"
        #expect(
            throws: CommandError.failure(
                "clouds.yaml: cloud 'x' has auth_type 'v3token'; only 'password' is read here.")
        ) { _ = try load(cloud: "x", files: ["clouds.yaml": token]) }
    }
}

@Suite("The YAML that is read")
struct YAMLTests {
    @Test("Mappings, lists and scalars")
    func forms() throws {
        let text = "---\na:\n  b: 1\n  c: \"x\\\"y\"\nlist:\n- one\n- 'two'\nempty:\nurl: http://h:1/x\nnothing: ~\n"
        #expect(
            try YAML(parsing: text)
                == .mapping([
                    "a": .mapping(["b": .scalar("1"), "c": .scalar("x\"y")]),
                    "list": .list([.scalar("one"), .scalar("two")]), "empty": .scalar(""),
                    "url": .scalar("http://h:1/x"), "nothing": .scalar(""),
                ]))
    }

    @Test(
        "Forms that are not read are refused with their line",
        arguments: [
            ("a: &x 1", 1), ("a:\n  b: |\n    text", 2), ("a: {b: c}", 1), ("a: [1, 2]", 1), ("\ta: 1", 1),
            ("a: 1\na: 2", 2), ("a: 1\n---\nb: 2", 2), ("a: b: c", 1), ("a: 'x", 1), ("just words", 1),
            ("a: 1\n   b: 2", 2), ("a:\n    b: 1\n  c: 2", 3), ("a: \"x\" y", 1), ("a: !tag x", 1), ("*a: 1", 1),
        ])
    func refusals(text: String, line: Int) {
        #expect { _ = try YAML(parsing: text) } throws: { ($0 as? YAMLError)?.line == line }
    }

    @Test("Deep nesting ends with an error, not with the stack")
    func depth() {
        let text = (0..<200).map { String(repeating: " ", count: $0) + "a:" }.joined(separator: "\n")
        #expect { _ = try YAML(parsing: text) } throws: { ($0 as? YAMLError)?.reason == "is nested too deeply" }
    }
}
