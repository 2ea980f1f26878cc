import Crypto
import Testing

private let ed25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICQljccjHSK3bxZxb8F486C/QpOi5GNs/xgT7YvISCeQ"
private let ecdsa =
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBH3a49GHnmZsOtu6ld7rmJs3AIuhAcioxQ+1Al07p"
    + "fUjSlbx5Xiv6VrrrKUkFLeUIB1KuLikYEOJAWcOaLNCvW8="
private let rsa =
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC//ZCBwbUTPkM1aWBJP/l7uXvmUDAyDrdaj5SVARfjjsltG9icDA18TNp/p/P364jY7eH7mGuV"
    + "8nD0U9HsWoAlzVgYdwoOxDGPjXLPEv2t3ufc7v2dv9/iVLcjakzBVoBiI1mZdGoq7fAd39mHf/S7h0a1W254pY4QU98B8zfIczpmE13h58YH3Aqzgq"
    + "W8eP7g1lVP7N80lTIR578KTUbP3zxVGscOVsMuAfM+/vs3Fcc8F5+MvhJkTOAxyvals0WD1QFcF2zSfp+C25FjwwrxXhyqpCXt+HzIqOptzAerioSz"
    + "tj/0r2aUDSsllCEIvK0AVIg9wGiq8NFoARJnafBx"

@Suite("SSH public keys")
struct SSHKeyTests {
    @Test(
        "Keys of every usual type are read, with the fingerprint that ssh-keygen shows",
        arguments: [
            (ed25519, "14:59:3d:b3:3d:43:12:a7:b5:57:63:2c:b1:1a:0b:f9"),
            (ecdsa, "73:1d:7f:33:be:1a:83:9c:87:c4:e1:03:50:1c:22:b0"),
        ])
    func fingerprints(line: String, expected: String) throws {
        let key = try SSHPublicKey(authorizedKey: line + " me@host of mine\n")
        #expect(key.fingerprintMD5 == expected)
        #expect(key.comment == "me@host of mine")
        #expect(try SSHPublicKey(authorizedKey: line).comment == "")
        #expect(try SSHPublicKey(authorizedKey: rsa).type == "ssh-rsa")
    }

    @Test(
        "What is no key is refused",
        arguments: [
            "", "ssh-ed25519", "ssh-dss AAAAB3NzaC1kc3M=", "ssh-ed25519 !!!", ed25519 + "\n" + ed25519,
            ed25519.replacing("ssh-ed25519 ", with: "ssh-rsa "), String(ed25519.dropLast(4)), ed25519 + "AAAA",
            "command=\"rm\" " + ed25519, ed25519 + " \u{1B}[2J", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5",
            ecdsa.replacing("ecdsa-sha2-nistp256 ", with: "ecdsa-sha2-nistp384 "),
            "ssh-rsa " + String(repeating: "A", count: 20_000),
        ])
    func refused(line: String) {
        #expect(throws: CryptoError.self) { try SSHPublicKey(authorizedKey: line) }
    }

    @Test("A made pair has a public key that is read back and a private key in PEM")
    func pair() throws {
        let pair = try makeSSHKeyPair(comment: "Generated-by-Apus")
        let key = try SSHPublicKey(authorizedKey: pair.authorizedKey)
        #expect(key.type == "ssh-rsa")
        #expect(key.comment == "Generated-by-Apus")
        #expect(pair.privatePEM.hasPrefix("-----BEGIN RSA PRIVATE KEY-----"))
    }
}
