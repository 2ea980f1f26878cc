extension Instance {
    /// Whether the guest has a trusted platform module in software: its flavor or the image says so.
    ///
    /// Its state lives on the host beside the domain, which whoever takes the disk away or boots another one would lose
    /// or seal; such requests are refused.
    ///
    /// - Parameter properties: those of the image that the disk was made from.
    public func hasVirtualTPM(imageProperties properties: [String: String]) -> Bool {
        flavor.extraSpecs["hw:tpm_version"] != nil || properties["hw_tpm_version"] != nil
    }

    /// Nova's sentence for a request that is refused because of the module.
    public func virtualTPMRefusal(of request: String) -> String {
        "Operation '\(request)' not supported for vTPM-enabled instance (\(id))."
    }
}
