import Foundation

/// What `swift package dump-package` says of the package, as far as the rules need it.
struct PackageDescription: Decodable {
    struct Target: Decodable {
        var name: String
        var type: String
        var path: String?
        var dependencies: [Dependency]

        init(name: String, type: String = "regular", dependencies: [Dependency] = []) {
            (self.name, self.type, self.dependencies) = (name, type, dependencies)
        }
    }

    /// One entry of a target's `dependencies`: of this package by name, or a product of another one.
    struct Dependency: Decodable {
        var name: String
        var isOfAnotherPackage: Bool

        init(_ name: String, isOfAnotherPackage: Bool = false) {
            (self.name, self.isOfAnotherPackage) = (name, isOfAnotherPackage)
        }

        init(from decoder: any Decoder) throws {
            let members = try decoder.container(keyedBy: Key.self)
            guard let kind = members.allKeys.first else {
                throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: "empty"))
            }
            // Each form is an array whose first element is the name: [name, condition] or [name, package, …].
            var parts = try members.nestedUnkeyedContainer(forKey: kind)
            name = try parts.decode(String.self)
            isOfAnotherPackage = kind.stringValue == "product"
        }
    }

    private struct Key: CodingKey {
        var stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    var targets: [Target]
    /// Packages that this one depends on.
    var dependencies: [Entry]

    struct Entry: Decodable {}

    /// The package's root folder, found from where this file stands.
    static let root = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// Asks SwiftPM, with a scratch folder of its own: `swift test` holds the lock of the usual one.
    static func load() throws -> PackageDescription {
        let scratch = FileManager.default.temporaryDirectory.appending(path: "apus-architecture-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: scratch) }
        let swift = Process()
        swift.executableURL = URL(filePath: "/usr/bin/env")
        swift.arguments = [
            "swift", "package", "--package-path", root.path(), "--scratch-path", scratch.path(), "dump-package",
        ]
        let output = Pipe()
        swift.standardOutput = output
        try swift.run()
        let json = output.fileHandleForReading.readDataToEndOfFile()
        swift.waitUntilExit()
        return try JSONDecoder().decode(PackageDescription.self, from: json)
    }
}

/// The import lines of the sources, by target.
struct ImportLines {
    struct Import: Hashable {
        var target: String
        var module: String
        /// `Sources/Model/Instance.swift:3`
        var place: String
    }

    var imports: [Import]

    init(_ imports: [Import]) { self.imports = imports }

    /// Reads every Swift file of `Sources`; the folder's name is the target's.
    static func load() throws -> ImportLines {
        let sources = PackageDescription.root.appending(path: "Sources")
        var found: [Import] = []
        guard let files = FileManager.default.enumerator(atPath: sources.path()) else {
            throw CocoaError(.fileReadNoSuchFile)
        }
        for case let path as String in files where path.hasSuffix(".swift") {
            let text = try String(contentsOf: sources.appending(path: path), encoding: .utf8)
            let target = String(path.prefix { $0 != "/" })
            found += parse(text, target: target, file: "Sources/\(path)")
        }
        return ImportLines(found)
    }

    static func parse(_ text: String, target: String, file: String) -> [Import] {
        let line =
            #/^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:public|package|internal|fileprivate|private)\s+)?import\s+(?:(?:struct|class|enum|protocol|func|var|let|typealias)\s+)?(\w+)/#
        var found: [Import] = []
        for (index, content) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            guard let match = content.firstMatch(of: line) else { continue }
            found.append(Import(target: target, module: String(match.1), place: "\(file):\(index + 1)"))
        }
        return found
    }
}
