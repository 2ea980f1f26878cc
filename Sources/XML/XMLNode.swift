/// Why a text is no XML, or a tree cannot become one.
public enum XMLError: Error, Sendable, Hashable, CustomStringConvertible {
    case malformed(line: Int, reason: String)
    case tooLarge(bytes: Int, limit: Int)
    /// Document type declarations are refused: they define entities and fetch files.
    case documentType
    case invalidName(String)
    /// A character that XML cannot hold, such as a control character.
    case invalidCharacter(in: String, scalar: UInt32)

    public var description: String {
        switch self {
        case .malformed(let line, let reason): "line \(line): \(reason)"
        case .tooLarge(let bytes, let limit): "\(bytes) bytes of XML, at most \(limit) are read"
        case .documentType: "a document type declaration is not accepted"
        case .invalidName(let name): "\"\(name.prefix(64))\" is no name of an element or attribute"
        case .invalidCharacter(let place, let scalar):
            "\(place) contains the character U+\(String(scalar, radix: 16, uppercase: true)), which XML cannot hold"
        }
    }
}

/// An element with its attributes, its text and the elements in it. Names carry their prefix: `qemu:arg`.
///
/// Text and elements are not interleaved: an element has a text, elements, or first the text and then the elements.
public struct XMLNode: Sendable, Hashable {
    public var name: String
    /// In the order in which they are written.
    public var attributes: [(String, String)]
    public var text: String
    public var children: [XMLNode]

    /// An element; attributes whose value is `nil` are left out.
    public init(
        _ name: String, _ attributes: KeyValuePairs<String, String?> = [:], text: String? = nil,
        @XMLBuilder _ children: () -> [XMLNode] = { [] }
    ) {
        self.name = name
        self.attributes = attributes.compactMap { name, value in value.map { (name, $0) } }
        self.text = text ?? ""
        self.children = children()
    }

    /// An attribute's value; setting `nil` removes it.
    public subscript(attribute: String) -> String? {
        get { attributes.first { $0.0 == attribute }?.1 }
        set {
            guard let newValue else {
                attributes.removeAll { $0.0 == attribute }
                return
            }
            if let index = attributes.firstIndex(where: { $0.0 == attribute }) {
                attributes[index].1 = newValue
            } else {
                attributes.append((attribute, newValue))
            }
        }
    }

    /// The first element at `path`, relative to this one: `devices/disk`.
    public func first(_ path: String) -> XMLNode? {
        let (head, rest) = Self.split(path)
        for child in children where child.name == head {
            guard let rest else { return child }
            if let found = child.first(rest) { return found }
        }
        return nil
    }

    /// Every element at `path`, relative to this one, in document order.
    public func all(_ path: String) -> [XMLNode] {
        let (head, rest) = Self.split(path)
        let found = children.filter { $0.name == head }
        return rest.map { rest in found.flatMap { $0.all(rest) } } ?? found
    }

    private static func split(_ path: String) -> (head: String, rest: String?) {
        guard let slash = path.firstIndex(of: "/") else { return (path, nil) }
        return (String(path[..<slash]), String(path[path.index(after: slash)...]))
    }

    public static func == (left: XMLNode, right: XMLNode) -> Bool {
        left.name == right.name && left.text == right.text && left.children == right.children
            && left.attributes.elementsEqual(right.attributes, by: ==)
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(name)
        hasher.combine(text)
        hasher.combine(children)
        for (name, value) in attributes {
            hasher.combine(name)
            hasher.combine(value)
        }
    }
}

/// Elements written one below the other, with `if`, `switch` and `for`.
@resultBuilder
public enum XMLBuilder {
    public static func buildExpression(_ node: XMLNode) -> [XMLNode] { [node] }
    public static func buildExpression(_ node: XMLNode?) -> [XMLNode] { node.map { [$0] } ?? [] }
    public static func buildExpression(_ nodes: [XMLNode]) -> [XMLNode] { nodes }
    public static func buildBlock(_ parts: [XMLNode]...) -> [XMLNode] { parts.flatMap(\.self) }
    public static func buildOptional(_ part: [XMLNode]?) -> [XMLNode] { part ?? [] }
    public static func buildEither(first part: [XMLNode]) -> [XMLNode] { part }
    public static func buildEither(second part: [XMLNode]) -> [XMLNode] { part }
    public static func buildArray(_ parts: [[XMLNode]]) -> [XMLNode] { parts.flatMap(\.self) }
}
