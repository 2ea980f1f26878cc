internal import Libvirt
internal import Model

extension Failure {
    /// What a libvirt error means to whoever asked for `what`. Whatever one hypervisor refuses, another may do.
    init(_ error: LibvirtError, _ what: String) {
        let text = "\(what): \(error.message.prefix(800)) (\(error.call))"
        switch error.code {
        case .noDomain: self.init(.notFound, text)
        case .noNetwork: self.init(.networkUnavailable, text, isRetriable: true)
        case .domainExists: self.init(.conflict, text)
        case .operationTimeout: self.init(.timeout, text, isRetriable: true)
        case .cancelled: self.init(.cancelled, text, isRetriable: true)
        case .overloaded: self.init(.overloaded, text, isRetriable: true)
        case .connectionLost:
            // Says nothing about the guest, nor about what was asked: it was not done, or its end was not heard of.
            self.init(
                .unreachable, "\(what): no connection to libvirt: \(error.message.prefix(800))", isRetriable: true)
        default: self.init(.hypervisor, text, isRetriable: true)
        }
    }
}

/// Runs `body`; a libvirt error becomes a failure of `what`.
func translated<T>(_ what: @autoclosure () -> String, _ body: () async throws -> T) async throws -> T {
    do {
        return try await body()
    } catch let error as LibvirtError {
        throw Failure(error, what())
    }
}
