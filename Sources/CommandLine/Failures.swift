internal import HTTP
internal import Model

/// A sentence for a person, whatever was thrown.
func describe(_ error: any Error) -> String {
    switch error {
    case let error as CommandError: error.message
    case let error as Failure: error.message
    case let error as HTTPClientError: error.failure.message
    case let error as any CustomStringConvertible: error.description
    default: "\(error)"
    }
}

/// A sentence for a person about a request to the API that did not get through.
func describe(_ error: HTTPClientError, settings: CloudSettings) -> String {
    switch error {
    case .connectFailed(let url, let reason):
        """
        Nothing answers at \(url) (\(reason)). The address comes from \(settings.origin). Is `apus up` running there? \
        `apus doctor` tells on this machine.
        """
    case .timedOut(let url): "\(url) did not answer in time."
    case .tls(let url, let reason):
        "\(url) does not prove who it is (\(reason)). Set OS_CACERT to the certificate authority's file."
    case .badURL(let url): "'\(url)' is no URL. It comes from \(settings.origin)."
    case .tooLarge(let url, let limit): "The answer of \(url) is longer than \(limit) bytes."
    case .aborted(let url, let reason): "The connection to \(url) broke: \(reason)."
    case .cancelled: "Interrupted."
    }
}
