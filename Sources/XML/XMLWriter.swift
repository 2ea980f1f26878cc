extension XMLNode {
    /// The element as a document, without an XML declaration. Throws `invalidName` or `invalidCharacter` rather than write what
    /// another reader would refuse or read differently.
    public func serialized(indent: Bool = true) throws(XMLError) -> String {
        var text = ""
        try write(into: &text, depth: indent ? 0 : nil)
        return text
    }

    private func write(into output: inout String, depth: Int?) throws(XMLError) {
        let margin = depth.map { String(repeating: "  ", count: $0) } ?? ""
        let lineEnd = depth == nil ? "" : "\n"
        try checkName(name)
        output += "\(margin)<\(name)"
        for (attribute, value) in attributes {
            try checkName(attribute)
            output += " \(attribute)=\""
            try escape(value, of: "attribute \(attribute) of <\(name)>", isAttribute: true, into: &output)
            output += "\""
        }
        guard !text.isEmpty || !children.isEmpty else {
            output += "/>\(lineEnd)"
            return
        }
        output += ">"
        try escape(text, of: "<\(name)>", isAttribute: false, into: &output)
        if !children.isEmpty {
            output += lineEnd
            for child in children { try child.write(into: &output, depth: depth.map { $0 + 1 }) }
            output += margin
        }
        output += "</\(name)>\(lineEnd)"
    }
}

private func checkName(_ name: String) throws(XMLError) {
    let isStart = { (byte: UInt8) in (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || byte == 0x5F }
    let isPart = { (byte: UInt8) in isStart(byte) || (0x30...0x39).contains(byte) || byte == 0x2D || byte == 0x2E }
    let parts = name.utf8.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
    let isName =
        (1...2).contains(parts.count)
        && parts.allSatisfy { part in part.first.map(isStart) == true && part.allSatisfy(isPart) }
    guard isName else { throw .invalidName(name) }
}

private func escape(
    _ value: String, of place: String, isAttribute: Bool, into output: inout String
) throws(XMLError) {
    for scalar in value.unicodeScalars {
        switch scalar.value {
        case 0x26: output += "&amp;"
        case 0x3C: output += "&lt;"
        case 0x3E: output += "&gt;"
        case 0x22 where isAttribute: output += "&quot;"
        // A reader turns these into spaces or newlines unless they are written as numbers.
        case 0x0D: output += "&#13;"
        case 0x09 where isAttribute, 0x0A where isAttribute: output += "&#\(scalar.value);"
        case 0x09, 0x0A: output.unicodeScalars.append(scalar)
        case 0...0x1F, 0xFFFE, 0xFFFF: throw .invalidCharacter(in: place, scalar: scalar.value)
        default: output.unicodeScalars.append(scalar)
        }
    }
}
