import Testing

@Suite("The target list is the architecture diagram")
struct ArchitectureTests {
    @Test("The package and its import lines keep every rule")
    func thisPackage() throws {
        let package = try PackageDescription.load()
        let lines = try ImportLines.load()
        #expect(package.targets.count > 30)
        #expect(lines.imports.contains { $0.target == "Compute" && $0.module == "Model" })
        #expect(Rules(package: package, lines: lines).violations() == [])
    }

    @Test(
        "A made-up offender of each rule is named",
        arguments: [
            (
                Offence(target: "HTTP", declares: ["Compute"]),
                "HTTP depends on Compute, which stands below it."
            ),
            (
                Offence(target: "Scheduling", declares: ["Telemetry"]),
                "Scheduling depends on Telemetry, which it must not know."
            ),
            (
                Offence(target: "Extra", declares: []),
                "Extra has no place in the order of the modules."
            ),
            (
                Offence(target: "ComputeAPI", declares: ["CSQLite"]),
                "ComputeAPI declares CSQLite, which only SQLite may see."
            ),
            (
                Offence(target: "RPC", declares: ["CCurl"], imports: ["CCurl"]),
                "Sources/RPC/File.swift:1: RPC imports CCurl, which only HTTP may see."
            ),
            (
                Offence(target: "Compute", declares: [], imports: ["XML"]),
                "Sources/Compute/File.swift:1: Compute imports XML, which its target does not declare."
            ),
            (
                Offence(target: "Compute", declares: [], imports: ["Foundation"]),
                "Sources/Compute/File.swift:1: Compute imports Foundation, which its target does not declare."
            ),
            (
                Offence(target: "apus-compute", declares: ["Database"]),
                "apus-compute carries Database."
            ),
            (
                Offence(target: "HTTP", declares: [], products: ["NIO"]),
                "HTTP depends on a product of another package: NIO."
            ),
        ])
    func offender(offence: Offence, sentence: String) {
        #expect(offence.rules.violations().contains(sentence))
    }

    @Test("What a target reaches only through others counts for the agent too")
    func transitive() {
        let package = PackageDescription(
            targets: [
                .init(name: "CPostgreSQL", type: "system"),
                .init(name: "Model", dependencies: []),
                .init(name: "Compute", dependencies: [.init("CPostgreSQL")]),
                .init(name: "apus-compute", dependencies: [.init("Compute")]),
            ], dependencies: [])
        #expect(
            Rules(package: package, lines: ImportLines([])).violations().contains("apus-compute carries CPostgreSQL."))
    }

    @Test("Import lines are found with their attributes, access levels and kinds, and nowhere else")
    func parsing() {
        let text = """
            // import Nothing
            import Model
            internal import CSQLite
            public import struct HTTP.HTTPRequest
            @testable import Compute
            @preconcurrency private import Glibc
            let important = "import Nothing"
            """
        let found = ImportLines.parse(text, target: "T", file: "F")
        #expect(found.map(\.module) == ["Model", "CSQLite", "HTTP", "Compute", "Glibc"])
        #expect(found.map(\.place) == ["F:2", "F:3", "F:4", "F:5", "F:6"])
    }
}

/// One target that breaks a rule.
struct Offence: Sendable, CustomStringConvertible {
    var target: String
    var declares: [String]
    var imports: [String] = []
    var products: [String] = []

    var description: String { "\(target) \(declares) \(imports) \(products)" }

    var rules: Rules {
        let declared = declares.map { PackageDescription.Dependency($0) }
        let foreign = products.map { PackageDescription.Dependency($0, isOfAnotherPackage: true) }
        let package = PackageDescription(
            targets: [.init(name: target, dependencies: declared + foreign)], dependencies: [])
        let lines = imports.map {
            ImportLines.Import(target: target, module: $0, place: "Sources/\(target)/File.swift:1")
        }
        return Rules(package: package, lines: ImportLines(lines))
    }
}
