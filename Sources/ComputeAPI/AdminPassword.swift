internal import Crypto

/// Twelve letters and digits that are not taken for one another.
func makePassword() -> String {
    makeText(12, of: "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789")
}

/// `length` characters of `alphabet` (ASCII), each as likely as the others.
func makeText(_ length: Int, of alphabet: String) -> String {
    let letters = Array(alphabet.utf8)
    // Values beyond the last whole multiple of the alphabet would make its first letters likelier.
    let limit = 256 / letters.count * letters.count
    var text: [UInt8] = []
    while text.count < length {
        for byte in randomBytes(length * 2) where Int(byte) < limit && text.count < length {
            text.append(letters[Int(byte) % letters.count])
        }
    }
    return String(decoding: text, as: UTF8.self)
}
