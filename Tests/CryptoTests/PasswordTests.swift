import Crypto
import Testing

@Suite("Passwords")
struct PasswordTests {
    @Test("A hash is yescrypt, salted, and only its password fits")
    func roundTrip() throws {
        let hash = try Password.hash("pässwörd")
        #expect(hash.hasPrefix("$y$"))
        #expect(hash != (try Password.hash("pässwörd")))
        #expect(Password.verify("pässwörd", against: hash))
        #expect(!Password.verify("passwort", against: hash))
        #expect(!Password.verify("", against: hash))
    }

    @Test(
        "A password that could be cut short is refused",
        arguments: [
            "", String(repeating: "x", count: Password.longest + 1), "with\0nul",
        ])
    func refused(password: String) {
        #expect(throws: CryptoError.self) { try Password.hash(password) }
        #expect(!Password.verify(password, against: "$y$j9T$aaaa$bbbb"))
    }

    @Test("A hash that cannot be read fits no password", arguments: ["", "*0", "*1", "$y$", "plain", "$9$x$y"])
    func unreadable(hash: String) {
        #expect(!Password.verify("secret", against: hash))
        #expect(!Password.verify(hash, against: hash))
    }
}
