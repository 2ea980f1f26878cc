internal import HTTP
internal import Model

/// The version documents, which need no token.
extension ComputeRoutes {
    mutating func addVersions() {
        let baseURL = baseURL
        addOpen("/") { request in
            jsonAnswer { writer in
                writer.array("versions") { writer in
                    writer.object { writeVersion(.old, baseURL(request), to: &$0) }
                    writer.object { writeVersion(.current, baseURL(request), to: &$0) }
                }
            }
        }
        for (path, document) in [("/v2", VersionDocument.old), ("/v2.1", .current)] {
            addOpen(path) { request in
                let base = baseURL(request)
                return jsonAnswer { writer in
                    writer.object("version") { writer in
                        writeVersion(document, base, to: &writer)
                        writer.array("media-types") { writer in
                            writer.object {
                                $0.member("base", "application/json")
                                $0.member(
                                    "type", "application/vnd.openstack.compute+json;version=\(document.mediaVersion)")
                            }
                        }
                    }
                }
            }
        }
    }
}

private enum VersionDocument {
    /// The API before microversions: clients look for its document, nothing else is served below it.
    case old
    case current

    var mediaVersion: String { self == .old ? "2" : "2.1" }
}

private func writeVersion(_ document: VersionDocument, _ base: String, to writer: inout JSONWriter) {
    let isCurrent = document == .current
    writer.member("id", isCurrent ? "v2.1" : "v2.0")
    writer.member("status", isCurrent ? "CURRENT" : "DEPRECATED")
    writer.member("version", isCurrent ? MicroversionHistory.maximum.description : "")
    writer.member("min_version", isCurrent ? Microversion.minimum.description : "")
    writer.member("updated", isCurrent ? "2013-07-23T11:33:21Z" : "2011-01-21T11:33:21Z")
    writer.array("links") { writer in
        writer.object {
            $0.member("rel", "self")
            $0.member("href", "\(base)/\(isCurrent ? "v2.1" : "v2")/")
        }
    }
}
