# In a file of its own: Packer before 1.7 does not know required_plugins and is given oneke.pkr.hcl alone; newer ones take
# the whole directory, after `packer init packer`.
packer {
  required_plugins {
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = ">= 1.1.0"
    }
  }
}
