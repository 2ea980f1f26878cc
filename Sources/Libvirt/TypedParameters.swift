internal import CLibvirt

/// A value as libvirt's typed parameters carry it.
public enum TypedValue: Sendable, Hashable {
    case integer(Int64)
    case unsigned(UInt64)
    case double(Double)
    case boolean(Bool)
    case text(String)

    /// The value as a whole number that is not negative, if it is one.
    public var unsignedValue: UInt64? {
        switch self {
        case .integer(let value): UInt64(exactly: value)
        case .unsigned(let value): value
        case .boolean(let value): value ? 1 : 0
        case .double, .text: nil
        }
    }

    /// The value as a whole number, if it is one.
    public var integerValue: Int64? {
        switch self {
        case .integer(let value): value
        case .unsigned(let value): Int64(exactly: value)
        case .boolean(let value): value ? 1 : 0
        case .double, .text: nil
        }
    }

    /// The text, if it is one.
    public var textValue: String? {
        guard case .text(let value) = self else { return nil }
        return value
    }
}

/// The parameters by name. A type that this version does not know is left out, as an unknown name is ignored: libvirt
/// adds to both.
func decodeParameters(_ parameters: UnsafePointer<virTypedParameter>?, count: Int) -> [String: TypedValue] {
    var values: [String: TypedValue] = [:]
    guard let parameters, count > 0 else { return values }
    values.reserveCapacity(count)
    for index in 0..<count {
        guard let parameter = apusParameter(parameters, Int32(index)), let name = apusParameterName(parameter),
            let value = decode(parameter)
        else { continue }
        values[String(cString: name)] = value
    }
    return values
}

private func decode(_ parameter: UnsafePointer<virTypedParameter>) -> TypedValue? {
    switch virTypedParameterType(rawValue: UInt32(bitPattern: apusParameterType(parameter))) {
    case VIR_TYPED_PARAM_INT, VIR_TYPED_PARAM_LLONG: .integer(apusParameterSigned(parameter))
    case VIR_TYPED_PARAM_UINT, VIR_TYPED_PARAM_ULLONG: .unsigned(apusParameterUnsigned(parameter))
    case VIR_TYPED_PARAM_DOUBLE: .double(apusParameterDouble(parameter))
    case VIR_TYPED_PARAM_BOOLEAN: .boolean(apusParameterUnsigned(parameter) != 0)
    case VIR_TYPED_PARAM_STRING: apusParameterString(parameter).map { .text(String(cString: $0)) }
    default: nil
    }
}
