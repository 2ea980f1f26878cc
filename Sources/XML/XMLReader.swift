internal import CXML2

extension XMLNode {
    /// The largest text that is read, in bytes.
    public static let sizeLimit = 16 << 20
    /// The deepest nesting that is read.
    public static let depthLimit = 128

    /// Reads a document. No network, no files, no entities beyond the five of XML itself. White space between elements is dropped.
    public init(parsing text: String) throws(XMLError) {
        let bytes = Array(text.utf8)
        guard bytes.count <= Self.sizeLimit else { throw .tooLarge(bytes: bytes.count, limit: Self.sizeLimit) }
        // Refused before the library sees it: reading a declaration is what defines entities.
        guard !text.contains("<!DOCTYPE") else { throw .documentType }
        self = try Reader(bytes).root()
    }
}

/// Done once, before the first document, because the library's own set-up is not safe among threads.
private let prepared: Void = xmlInitParser()

/// Owns a reader over bytes it keeps.
private struct Reader: ~Copyable {
    private let pointer: xmlTextReaderPtr
    private let bytes: UnsafeMutableBufferPointer<CChar>

    init(_ source: [UInt8]) throws(XMLError) {
        prepared
        xmlResetLastError()
        let copy = UnsafeMutableBufferPointer<CChar>.allocate(capacity: max(1, source.count))
        _ = copy.initialize(from: source.lazy.map { CChar(bitPattern: $0) })
        let options =
            XML_PARSE_NONET.rawValue | XML_PARSE_NOERROR.rawValue | XML_PARSE_NOWARNING.rawValue
            | XML_PARSE_NOCDATA.rawValue
        let reader = xmlReaderForMemory(copy.baseAddress, Int32(source.count), nil, "UTF-8", Int32(options))
        guard let reader else {
            copy.deallocate()
            throw lastError()
        }
        pointer = reader
        bytes = copy
    }

    deinit {
        xmlFreeTextReader(pointer)
        bytes.deallocate()
    }

    func root() throws(XMLError) -> XMLNode {
        var open: [XMLNode] = []
        var root: XMLNode?
        while true {
            let result = xmlTextReaderRead(pointer)
            if result == 0 { break }
            guard result == 1 else { throw lastError() }
            switch xmlReaderTypes(UInt32(bitPattern: xmlTextReaderNodeType(pointer))) {
            case XML_READER_TYPE_ELEMENT:
                guard open.count < XMLNode.depthLimit else {
                    throw .malformed(line: line, reason: "more than \(XMLNode.depthLimit) elements inside each other")
                }
                let isEmpty = xmlTextReaderIsEmptyElement(pointer) == 1
                open.append(try element())
                if isEmpty { close(&open, &root) }
            case XML_READER_TYPE_END_ELEMENT:
                close(&open, &root)
            case XML_READER_TYPE_TEXT, XML_READER_TYPE_CDATA, XML_READER_TYPE_SIGNIFICANT_WHITESPACE,
                XML_READER_TYPE_WHITESPACE:
                if !open.isEmpty { open[open.count - 1].text += value }
            case XML_READER_TYPE_DOCUMENT_TYPE, XML_READER_TYPE_ENTITY, XML_READER_TYPE_ENTITY_REFERENCE:
                throw .documentType
            default: break
            }
        }
        guard let root else { throw lastError() }
        return root
    }

    private func close(_ open: inout [XMLNode], _ root: inout XMLNode?) {
        guard var node = open.popLast() else { return }
        if !node.children.isEmpty, node.text.allSatisfy(\.isWhitespace) { node.text = "" }
        if open.isEmpty { root = node } else { open[open.count - 1].children.append(node) }
    }

    private func element() throws(XMLError) -> XMLNode {
        var node = XMLNode(name)
        while true {
            let result = xmlTextReaderMoveToNextAttribute(pointer)
            if result == 0 { break }
            guard result == 1 else { throw lastError() }
            node.attributes.append((name, value))
        }
        xmlTextReaderMoveToElement(pointer)
        return node
    }

    private var name: String { text(xmlTextReaderConstName(pointer)) }
    private var value: String { text(xmlTextReaderConstValue(pointer)) }
    private var line: Int { Int(xmlTextReaderGetParserLineNumber(pointer)) }

    private func text(_ pointer: UnsafePointer<xmlChar>?) -> String {
        pointer.map { String(cString: $0) } ?? ""
    }
}

/// The library's last error on this thread.
private func lastError() -> XMLError {
    var line: Int32 = 0
    guard let message = apus_xml_last_error(&line) else { return .malformed(line: 1, reason: "no element") }
    let text = String(cString: message)
    return .malformed(line: Int(line), reason: String(text.prefix { !$0.isNewline }))
}
