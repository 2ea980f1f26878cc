public import Model

/// The documents as the metadata service serves them: each at its path, and at each folder a list of what is in it.
public struct MetadataTree: Sendable {
    public struct Answer: Sendable, Hashable {
        public var bytes: [UInt8]
        public var contentType: String
    }

    /// The versions of EC2's layout that guests look for.
    public static let amazonVersions = [
        "1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01",
        "2009-04-04", "latest",
    ]

    private let files: [String: [UInt8]]
    private let amazon: JSON
    private let keyName: String?
    private let hasUserData: Bool

    public init(_ content: MetadataContent, keyName: String?) throws(Failure) {
        files = Dictionary(content.files.map { ($0.path, $0.bytes) }, uniquingKeysWith: { $1 })
        do {
            amazon = try JSON(parsing: files["ec2/latest/meta-data.json"] ?? Array("{}".utf8))
        } catch {
            throw Failure(.internalError, "the metadata is no JSON: \(error)")
        }
        self.keyName = keyName
        hasUserData = files["ec2/latest/user-data"] != nil
    }

    /// What is at `path`; `nil` where nothing is.
    public func answer(at path: String) -> Answer? {
        guard path.utf8.count <= 512 else { return nil }
        let parts = path.split(separator: "/").map(String.init)
        guard let first = parts.first else { return Self.list(Self.amazonVersions) }
        if first == "openstack" { return openstack(Array(parts.dropFirst())) }
        guard Self.amazonVersions.contains(first) else { return nil }
        switch parts.count {
        case 1: return Self.list(hasUserData ? ["meta-data/", "user-data"] : ["meta-data/"])
        case 2 where parts[1] == "user-data":
            return files["ec2/latest/user-data"].map { Answer(bytes: $0, contentType: "application/octet-stream") }
        default: return parts[1] == "meta-data" ? amazon(Array(parts.dropFirst(2))) : nil
        }
    }

    private func openstack(_ parts: [String]) -> Answer? {
        let path = (["openstack"] + parts).joined(separator: "/")
        if let bytes = files[path] {
            let isJSON = path.hasSuffix(".json")
            return Answer(bytes: bytes, contentType: isJSON ? "application/json" : "application/octet-stream")
        }
        switch parts.count {
        case 0: return Self.list(MetadataContent.versions)
        case 1 where MetadataContent.versions.contains(parts[0]):
            let names = files.keys.filter { $0.hasPrefix(path + "/") }.map { String($0.dropFirst(path.utf8.count + 1)) }
            return Self.list(names.sorted())
        default: return nil
        }
    }

    private func amazon(_ parts: [String]) -> Answer? {
        var place = amazon
        for part in parts {
            guard let next = place[part] else { return nil }
            place = next
        }
        switch place {
        case .object(let members):
            if parts == ["public-keys"] { return Self.list(["0=\(keyName ?? "key")"]) }
            return Self.list(
                members.sorted { $0.key < $1.key }.map { name, value in value.members == nil ? name : name + "/" })
        case .array(let elements): return Self.list(elements.compactMap(\.text))
        case .string(let text): return Self.text(text)
        case .integer(let number): return Self.text(String(number))
        default: return Self.text("")
        }
    }

    private static func list(_ names: [String]) -> Answer { text(names.joined(separator: "\n")) }

    private static func text(_ text: String) -> Answer {
        Answer(bytes: Array(text.utf8), contentType: "text/plain; charset=UTF-8")
    }
}
