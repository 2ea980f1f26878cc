internal import Compute
internal import GuestHardware
internal import XML

extension DomainDocument {
    var cpu: XMLNode {
        let (cpu, processor) = (settings.cpu, hardware.processor)
        return XMLNode("cpu", attributes(of: cpu)) {
            if cpu.mode == .custom, let model = cpu.model {
                XMLNode("model", ["fallback": "forbid"], text: model)
            }
            XMLNode(
                "topology",
                [
                    "sockets": String(processor.topology.sockets), "cores": String(processor.topology.cores),
                    "threads": String(processor.topology.threads),
                ])
            if let mode = processor.addressWidthMode {
                XMLNode("maxphysaddr", ["mode": mode.rawValue, "bits": processor.addressBits.map(String.init)])
            }
            cells
            // QEMU's own default model takes none.
            if cpu.mode != .none {
                for feature in cpu.features {
                    XMLNode("feature", ["policy": feature.isRequired ? "require" : "disable", "name": feature.name])
                }
            }
        }
    }

    private func attributes(of cpu: CPUSettings) -> KeyValuePairs<String, String?> {
        switch cpu.mode {
        case .none: [:]
        case .hostModel: ["mode": "host-model", "check": "partial"]
        case .hostPassthrough: ["mode": "host-passthrough", "check": "none"]
        case .maximum: ["mode": "maximum", "check": "none"]
        case .custom: ["mode": "custom", "match": "exact", "check": "partial"]
        }
    }

    var cpuTuning: XMLNode? {
        let processor = hardware.processor
        let figures: [(String, Int?)] = [
            ("shares", processor.shares), ("period", processor.periodMicroseconds),
            ("quota", processor.quotaMicroseconds),
        ]
        guard figures.contains(where: { $0.1 != nil }) || guest.placement != nil else { return nil }
        return XMLNode("cputune") {
            for (name, value) in figures {
                if let value { XMLNode(name, text: String(value)) }
            }
            pins
        }
    }
}
