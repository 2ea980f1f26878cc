internal import HTTP
internal import Model

/// A JSON patch on an image, in either of the two forms that clients send.
struct ImagePatch {
    enum Verb: String { case add, replace, remove }

    struct Operation {
        let verb: Verb
        let member: String
        let value: JSON
    }

    private static let maximumOperations = 512

    let operations: [Operation]

    /// - Parameter mediaType: `application/openstack-images-v2.1-json-patch` (`op`, `path`, `value`) or `…v2.0…`
    ///   (the verb is the name of the member that holds the path).
    init(_ bytes: [UInt8], mediaType: String?) throws(ImageError) {
        let base = mediaType?.split(separator: ";").first.map { $0.lowercased().trimmingSpaces() }
        let isOld: Bool
        switch base {
        case "application/openstack-images-v2.1-json-patch": isOld = false
        case "application/openstack-images-v2.0-json-patch": isOld = true
        default:
            throw ImageError(
                415, "A patch is sent as application/openstack-images-v2.1-json-patch.",
                headers: ["Accept-Patch": "application/openstack-images-v2.1-json-patch"])
        }
        let document: JSON
        do { document = try JSON(parsing: bytes) } catch { throw .invalid("The body is not JSON: \(error).") }
        guard let list = document.list else {
            throw .invalid("Request body must be a JSON array of operation objects.")
        }
        guard list.count <= Self.maximumOperations else {
            throw ImageError(413, "A patch has at most \(Self.maximumOperations) operations.")
        }
        var operations: [Operation] = []
        for element in list { operations.append(try Self.operation(element, isOld: isOld)) }
        self.operations = operations
    }

    private static func operation(_ element: JSON, isOld: Bool) throws(ImageError) -> Operation {
        guard let members = element.members else { throw .invalid("Operations must be JSON objects.") }
        let verb: Verb
        let path: String
        if isOld {
            let verbs = members.keys.compactMap(Verb.init(rawValue:))
            guard verbs.count == 1, let only = verbs.first, let text = members[only.rawValue]?.text else {
                throw .invalid("Operation objects must contain exactly one member of add, remove, replace.")
            }
            (verb, path) = (only, text)
        } else {
            guard let known = members["op"]?.text.flatMap(Verb.init(rawValue:)) else {
                throw .invalid("Unable to find 'op' in JSON Schema change: it must be one of add, remove, replace.")
            }
            guard let text = members["path"]?.text else {
                throw .invalid("Unable to find 'path' in JSON Schema change")
            }
            (verb, path) = (known, text)
        }
        let value = members["value"]
        guard verb == .remove || value != nil else {
            throw .invalid("Operation \"\(verb.rawValue)\" requires a member named \"value\".")
        }
        return Operation(verb: verb, member: try member(of: path), value: value ?? .null)
    }

    /// The one segment of a JSON pointer, unescaped.
    private static func member(of pointer: String) throws(ImageError) -> String {
        guard pointer.first == "/" else { throw .invalid("Pointer `\(pointer)` does not start with \"/\".") }
        let segment = pointer.dropFirst()
        guard !segment.isEmpty, !segment.contains("/") else {
            throw .invalid("Pointer `\(pointer)` does not name one member of an image.")
        }
        var text = ""
        var isEscaped = false
        for character in segment.unicodeScalars {
            if isEscaped {
                guard character == "0" || character == "1" else {
                    throw .invalid("Pointer `\(pointer)` contains \"~\" not part of a recognized escape sequence.")
                }
                text.append(character == "0" ? "~" : "/")
                isEscaped = false
            } else if character == "~" {
                isEscaped = true
            } else {
                text.unicodeScalars.append(character)
            }
        }
        guard !isEscaped else { throw .invalid("Pointer `\(pointer)` ends within an escape sequence.") }
        return text
    }

    /// The image after all operations, or the first refusal.
    func apply(to image: ImageRecord, by caller: ImageCaller) throws(ImageError) -> ImageRecord {
        var fields = ImageFields(image: image, caller: caller)
        for operation in operations {
            switch operation.verb {
            case .add: try fields.set(operation.member, to: operation.value)
            case .replace:
                guard fields.has(operation.member) else {
                    throw .conflict("Property \(operation.member) does not exist.")
                }
                try fields.set(operation.member, to: operation.value)
            case .remove: try fields.remove(operation.member)
            }
        }
        return fields.image
    }
}

extension String {
    func trimmingSpaces() -> String {
        var text = Substring(self)
        while text.first == " " || text.first == "\t" { text.removeFirst() }
        while text.last == " " || text.last == "\t" { text.removeLast() }
        return String(text)
    }
}
