internal import CGnuTLS

/// What went wrong with keys, certificates and passwords. Never holds key material.
public enum CryptoError: Error, Sendable, Hashable, CustomStringConvertible {
    /// A GnuTLS call failed.
    case library(call: String, code: Int32, message: String)
    /// What was given is not what it should be.
    case invalid(what: String, reason: String)
    /// The hash could not be made; `errno` of libxcrypt.
    case passwordHashing(errno: Int32)

    public var description: String {
        switch self {
        case .library(let call, let code, let message): "\(call): \(message) (\(code))"
        case .invalid(let what, let reason): "\(what): \(reason)"
        case .passwordHashing(let errno): "the password could not be hashed (errno \(errno))"
        }
    }
}

/// Throws when a GnuTLS call returned an error.
func check(_ code: Int32, _ call: StaticString) throws(CryptoError) {
    guard code < 0 else { return }
    let message = gnutls_strerror(code).map { String(cString: $0) } ?? "unknown error"
    throw .library(call: call.description, code: code, message: message)
}
