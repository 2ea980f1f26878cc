import Testing
import XML

@Suite("XML")
struct XMLTests {
    @Test("A tree is written with its attributes in order, absent ones left out, everything escaped")
    func writing() throws {
        let isPersistent = true
        let node = XMLNode("domain", ["type": "kvm", "id": nil, "note": "a<b & \"c\"\n"]) {
            XMLNode("name", text: "x < y & z > 0")
            if isPersistent { XMLNode("on_crash", text: "destroy") } else { XMLNode("never") }
            for index in 0..<2 { XMLNode("disk", ["index": "\(index)"]) }
        }
        #expect(
            try node.serialized() == """
                <domain type="kvm" note="a&lt;b &amp; &quot;c&quot;&#10;">
                  <name>x &lt; y &amp; z &gt; 0</name>
                  <on_crash>destroy</on_crash>
                  <disk index="0"/>
                  <disk index="1"/>
                </domain>

                """)
        #expect(try XMLNode("a") { XMLNode("b") }.serialized(indent: false) == "<a><b/></a>")
    }

    @Test(
        "What is written is read back as it was",
        arguments: ["plain", " spaces ", "tab\tand\nline\rend", "<&>\"'", "ÍñstáÑcé ₡ 🐧", "]]>"])
    func roundTrip(text: String) throws {
        let node = XMLNode("a", ["b": text, "ns:c": "1"]) {
            XMLNode("text", text: text)
            XMLNode("empty")
        }
        for indent in [true, false] {
            #expect(
                try XMLNode(parsing: node.serialized(indent: indent).replacing("<a ", with: "<a xmlns:ns=\"urn:x\" "))[
                    "b"] == text)
            #expect(try XMLNode(parsing: XMLNode("t", text: text).serialized(indent: indent)).text == text)
        }
    }

    @Test("Elements are found by path")
    func paths() throws {
        let node = try XMLNode(
            parsing: """
                <?xml version="1.0"?>
                <!-- comment -->
                <domain xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
                  <devices><disk dev="vda"/><disk dev="vdb"><source file="/x"/></disk></devices>
                  <devices><disk dev="vdc"/></devices>
                  <qemu:commandline><qemu:arg value="-v"/></qemu:commandline>
                  <description><![CDATA[a < b]]></description>
                </domain>
                """)
        #expect(node.all("devices/disk").map { $0["dev"] } == ["vda", "vdb", "vdc"])
        #expect(node.first("devices/disk/source")?["file"] == "/x")
        #expect(node.first("qemu:commandline/qemu:arg")?["value"] == "-v")
        #expect(node.first("description")?.text == "a < b")
        #expect(node.text == "")
        #expect(node.first("devices/nic") == nil)
        #expect(node.all("nothing/here").isEmpty)
    }

    @Test("An attribute is set, changed and removed")
    func attributes() {
        var node = XMLNode("a", ["x": "1"])
        node["x"] = "2"
        node["y"] = "3"
        #expect(node == XMLNode("a", ["x": "2", "y": "3"]))
        node["x"] = nil
        #expect(node == XMLNode("a", ["y": "3"]))
        #expect(node.hashValue == XMLNode("a", ["y": "3"]).hashValue)
    }

    @Test("Characters that XML cannot hold are refused", arguments: ["a\0b", "\u{1B}[2J", "\u{8}", "\u{FFFE}"])
    func characters(text: String) {
        #expect(throws: XMLError.self) { try XMLNode("a", text: text).serialized() }
        #expect(throws: XMLError.self) { try XMLNode("a", ["b": text]).serialized() }
    }

    @Test(
        "Names that could break out of the element are refused",
        arguments: ["", "a b", "a>", "1a", "a:b:c", ":a", "a/", "\"", "ä"])
    func names(name: String) {
        #expect(throws: XMLError.invalidName(name)) { try XMLNode(name).serialized() }
        var node = XMLNode("a")
        node[name] = "x"
        #expect(throws: XMLError.invalidName(name)) { try node.serialized() }
    }

    @Test(
        "What is no document is refused",
        arguments: [
            "", "text", "<a>", "<a></b>", "<a/><b/>", "<a x=1/>", "<a>&undefined;</a>", "<a x='1' x='2'/>",
            "<a>\u{1}</a>",
        ])
    func malformed(text: String) {
        #expect(throws: XMLError.self) { try XMLNode(parsing: text) }
    }

    @Test(
        "Declarations that define entities or fetch files are refused",
        arguments: [
            "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>",
            "<?xml version='1.0'?>\n<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>",
        ])
    func documentType(text: String) {
        #expect(throws: XMLError.documentType) { try XMLNode(parsing: text) }
    }

    @Test("Depth and size are bounded")
    func bounds() {
        let deep = String(repeating: "<a>", count: 200) + String(repeating: "</a>", count: 200)
        #expect(throws: XMLError.self) { try XMLNode(parsing: deep) }
        let large = "<a>" + String(repeating: "x", count: XMLNode.sizeLimit) + "</a>"
        #expect(throws: XMLError.tooLarge(bytes: XMLNode.sizeLimit + 7, limit: XMLNode.sizeLimit)) {
            try XMLNode(parsing: large)
        }
    }

    @Test("An error names the line")
    func line() {
        do {
            _ = try XMLNode(parsing: "<a>\n<b>\n</c>\n</a>")
            Issue.record("it was read")
        } catch {
            guard case .malformed(3, let reason) = error else {
                Issue.record("\(error)")
                return
            }
            #expect(reason.contains("b"))
        }
    }
}
