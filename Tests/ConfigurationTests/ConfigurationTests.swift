import Configuration
import Foundation
import Model
import Testing

private let interval = Option("DEFAULT", "report_interval", default: Duration.seconds(10), help: "Between reports.") {
    $0 > .zero ? nil : "a positive duration"
}
private let connection = Option(
    "database", "connection", default: String?.none, help: "Where the database is.", isSecret: true)
private let virtType = Option("libvirt", "virt_type", default: "kvm", help: "How guests run.")
private let options = [interval.erased, connection.erased, virtType.erased]

@Suite("Configuration")
struct ConfigurationTests {
    /// A folder that lives as long as the test.
    private final class Folder {
        let path = NSTemporaryDirectory() + "apus-configuration-" + UUID().uuidString
        init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
        deinit { try? FileManager.default.removeItem(atPath: path) }
        func write(_ name: String, _ text: String, mode: Int = 0o600) throws -> String {
            let file = "\(path)/\(name)"
            try text.write(toFile: file, atomically: false, encoding: .utf8)
            try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: file)
            return file
        }
    }

    @Test("Defaults, then files in order, then overrides")
    func precedence() throws {
        let folder = try Folder()
        let first = try folder.write("a.conf", "[DEFAULT]\nreport_interval = 20\n[libvirt]\nvirt_type: qemu\n")
        let second = try folder.write("b.conf", "report-interval = 30\n")
        let files = try Configuration.load(files: [first, second], overrides: [], options: options)
        #expect(files[interval] == .seconds(30))
        #expect(files[virtType] == "qemu")
        #expect(files[connection] == nil)
        let overridden = try Configuration.load(
            files: [first, second], overrides: ["DEFAULT.report_interval=1m"], options: options)
        #expect(overridden[interval] == .seconds(60))
        #expect(overridden.source(of: "DEFAULT.report_interval") == "--set")
        #expect(files.source(of: "libvirt.virt_type") == "\(first):4")
        #expect(files.warnings.isEmpty)
    }

    @Test("Comments, quotes and continued lines are read as Nova's files have them")
    func dialect() throws {
        let folder = try Folder()
        let path = try folder.write(
            "a.conf", "# c\n; c\n[libvirt]\n\nvirt_type = \"a = b\"\n[database]\nconnection = x\n  y\n")
        let configuration = try Configuration.load(files: [path], overrides: [], options: options)
        #expect(configuration[virtType] == "a = b")
        #expect(configuration[connection] == "x\ny")
    }

    @Test("A value that is not allowed names file, line, value and what is allowed")
    func badValue() throws {
        let folder = try Folder()
        let path = try folder.write("a.conf", "[DEFAULT]\n\nreport_interval = soon\n")
        #expect(
            throws: ConfigurationError.badValue(
                source: "\(path):3", key: "DEFAULT.report_interval", value: "soon", allowed: Duration.allowed)
        ) { try Configuration.load(files: [path], overrides: [], options: options) }
        #expect(
            throws: ConfigurationError.badValue(
                source: "--set", key: "DEFAULT.report_interval", value: "-5", allowed: "a positive duration")
        ) { try Configuration.load(files: [], overrides: ["DEFAULT.report_interval=-5"], options: options) }
    }

    @Test(
        "An unknown option is a warning with the nearest known name",
        arguments: [
            (
                "[DEFAULT]\nreport_intervall = 5\n",
                "there is no option DEFAULT.report_intervall; the nearest is DEFAULT.report_interval"
            ),
            ("[DEFAULT]\nvirt_type = qemu\n", "there is no option DEFAULT.virt_type; the nearest is libvirt.virt_type"),
            ("[zoo]\ngiraffe = 1\n", "there is no option zoo.giraffe"),
        ])
    func unknown(text: String, warning: String) throws {
        let folder = try Folder()
        let path = try folder.write("a.conf", text)
        let configuration = try Configuration.load(files: [path], overrides: [], options: options)
        #expect(configuration.warnings == ["\(path):2: \(warning)"])
    }

    @Test(
        "A wrong override is an error",
        arguments: [
            ("nonsense", ConfigurationError.badOverride(text: "nonsense")), ("a=b", .badOverride(text: "a=b")),
            ("libvirt.virt_typ=x", .unknownOption(key: "libvirt.virt_typ", nearest: "libvirt.virt_type")),
            ("database.connection=x", .secretOverride(key: "database.connection")),
        ])
    func overrides(text: String, expected: ConfigurationError) {
        #expect(throws: expected) { try Configuration.load(files: [], overrides: [text], options: options) }
    }

    @Test(
        "What is no INI file is refused with its line",
        arguments: [
            ("nonsense\n", 1), ("[open\n", 1), ("\n= 5\n", 2), ("  indented = 1\n", 1), ("[]\n", 1),
        ])
    func syntax(text: String, line: Int) throws {
        let folder = try Folder()
        let path = try folder.write("a.conf", text)
        do {
            _ = try Configuration.load(files: [path], overrides: [], options: options)
            Issue.record("it was read")
        } catch {
            guard case .syntax(path, line, _) = error else {
                Issue.record("\(error)")
                return
            }
        }
    }

    @Test("A file with a secret that others can read stops the start; the same without a secret does not")
    func permissions() throws {
        let folder = try Folder()
        let path = try folder.write("a.conf", "[database]\nconnection = sqlite:secret\n", mode: 0o640)
        #expect(throws: ConfigurationError.exposedSecrets(path: path, keys: ["database.connection"])) {
            try Configuration.load(files: [path], overrides: [], options: options)
        }
        let open = try folder.write("b.conf", "[libvirt]\nvirt_type = qemu\n", mode: 0o644)
        #expect(try Configuration.load(files: [open], overrides: [], options: options)[virtType] == "qemu")
    }

    @Test("A secret may stand in a file of its own, and is masked when printed")
    func secretFile() throws {
        let folder = try Folder()
        let secret = try folder.write("secret", "hunter2\n")
        let path = try folder.write("a.conf", "[database]\nconnection = file:\(secret)\n", mode: 0o644)
        let configuration = try Configuration.load(files: [path], overrides: [], options: options)
        #expect(configuration[connection] == "hunter2")
        #expect(!configuration.printed().contains("hunter2"))
        #expect(configuration.printed().contains("# Where the database is. (file:\(secret))\nconnection = ****\n"))
        _ = try folder.write("secret", "hunter2\n", mode: 0o644)
        #expect(throws: ConfigurationError.exposedSecrets(path: secret, keys: ["database.connection"])) {
            try Configuration.load(files: [path], overrides: [], options: options)
        }
    }

    @Test("The printed form is a file that means the same")
    func printed() throws {
        let folder = try Folder()
        let configuration = try Configuration(options: options, values: ["DEFAULT.report_interval": "90"])
        let path = try folder.write("a.conf", configuration.printed())
        let again = try Configuration.load(files: [path], overrides: [], options: options)
        #expect(again[interval] == .seconds(90))
        #expect(again[virtType] == "kvm")
        #expect(again[connection] == nil)
    }

    @Test("A missing file, one that is no text and one that is too large are refused")
    func unreadable() throws {
        let folder = try Folder()
        let large = try folder.write("large", String(repeating: "#\n", count: 600_000))
        for path in ["\(folder.path)/none", large, "/proc/self/exe"] {
            #expect(throws: ConfigurationError.self) {
                try Configuration.load(files: [path], overrides: [], options: options)
            }
        }
    }

    @Test("For tests, values of undeclared options are read by whoever declares them")
    func undeclared() throws {
        let configuration = try Configuration(values: ["DEFAULT.report_interval": "5"])
        #expect(configuration[interval] == .seconds(5))
        #expect(try configuration.setting("libvirt.virt_type", to: "qemu")[virtType] == "qemu")
    }
}
