//! Making, renaming and removing names.

use ninering_wire::{AT_REMOVEDIR, Errno, PATH_MAX, Tmessage, mode};

use super::{NodeNumber, Value, Vfs, says_lacking};
use crate::{
    error::Error,
    ring::Ring,
    session,
    walk::{Last, Name, Visit, Walker},
};

impl<R: Ring> Vfs<R> {
    /// Makes a directory.
    ///
    /// # Errors
    /// Those of `mkdirat(2)`.
    pub async fn make_directory(&self, directory: NodeNumber, path: String, mode: u32) -> Result<Value, Error> {
        let mut walker = Walker::new(&self.session, self.node(directory)?, path)?;
        let Last::Name { name, .. } = walker.take_last() else {
            walker.run_to_parent().await?;
            return Err(Errno::EEXIST.into());
        };
        fn message<'w, R: Ring>(walker: &'w Walker<R>, dfid: u32, (name, mode, gid): (Name, u32, u32)) -> Tmessage<'w> {
            Tmessage::Tmkdir { dfid, name: walker.name(name), mode, gid }
        }
        let how = (name, mode & mode::PERMISSIONS, self.gid.get());
        // Where the answer may be lost with the connection, the directory is needed to look at what is there first.
        if !self.session.recovers()
            && let Visit::Done(qid) =
                walker.visit_directory(|walker, fid| message(walker, fid, how), session::made).await?
        {
            return Ok(Value::Qid(qid));
        }
        walker.run_to_parent().await?;
        Ok(Value::Qid(self.session.make(message(&walker, walker.fid(), how)).await?))
    }

    /// Makes a symbolic link. The target is not looked at.
    ///
    /// # Errors
    /// Those of `symlinkat(2)`.
    pub async fn symlink(&self, directory: NodeNumber, path: String, target: String) -> Result<Value, Error> {
        match target.as_bytes() {
            b"" => return Err(Errno::ENOENT.into()),
            bytes if bytes.len() >= PATH_MAX => return Err(Errno::ENAMETOOLONG.into()),
            bytes if bytes.contains(&0) => return Err(Errno::EINVAL.into()),
            _ => {}
        }
        let (walker, last) = self.find_parent(directory, path).await?;
        let name = self.new_name(&walker, last).await?;
        let (name, target) = (walker.name(name), target.as_str().into());
        let message = Tmessage::Tsymlink { fid: walker.fid(), name, target, gid: self.gid.get() };
        Ok(Value::Qid(self.session.make(message).await?))
    }

    /// Makes a special file, or an empty regular one: what `mode` says.
    ///
    /// # Errors
    /// Those of `mknodat(2)`.
    pub async fn make_special(
        &self,
        directory: NodeNumber,
        path: String,
        mode: u32,
        (major, minor): (u32, u32),
    ) -> Result<Value, Error> {
        let (mode, (major, minor)) = match mode & mode::IFMT {
            mode::IFCHR | mode::IFBLK => (mode, (major, minor)),
            mode::IFREG | mode::IFIFO | mode::IFSOCK => (mode, (0, 0)),
            0 => (mode | mode::IFREG, (0, 0)),
            mode::IFDIR => return Err(Errno::EPERM.into()),
            _ => return Err(Errno::EINVAL.into()),
        };
        let (walker, last) = self.find_parent(directory, path).await?;
        let name = self.new_name(&walker, last).await?;
        let (fid, name, gid) = (walker.fid(), walker.name(name), self.gid.get());
        let message = Tmessage::Tmknod { fid, name, mode: mode & (mode::IFMT | mode::PERMISSIONS), major, minor, gid };
        Ok(Value::Qid(self.session.make(message).await?))
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// Those of `readlinkat(2)`.
    pub async fn read_link(&self, directory: NodeNumber, path: String) -> Result<Value, Error> {
        let walker = self.find(directory, path, false).await?;
        if !walker.qid().kind.is_symlink() {
            return Err(Errno::EINVAL.into());
        }
        Ok(Value::Target(self.session.readlink(walker.fid()).await?))
    }

    /// Makes a hard link.
    ///
    /// # Errors
    /// Those of `linkat(2)`.
    pub async fn link(
        &self,
        old_directory: NodeNumber,
        old_path: String,
        follow: bool,
        new_directory: NodeNumber,
        new_path: String,
    ) -> Result<Value, Error> {
        let old = self.find(old_directory, old_path, follow).await?;
        let (walker, last) = self.find_parent(new_directory, new_path).await?;
        let name = self.new_name(&walker, last).await?;
        if old.qid().kind.is_dir() {
            return Err(Errno::EPERM.into());
        }
        self.order(Tmessage::Tlink { dfid: walker.fid(), fid: old.fid(), name: walker.name(name) }).await
    }

    /// Renames, replacing what is there.
    ///
    /// # Errors
    /// Those of `renameat(2)`.
    pub async fn rename(
        &self,
        old_directory: NodeNumber,
        old_path: String,
        new_directory: NodeNumber,
        new_path: String,
    ) -> Result<Value, Error> {
        let (old, old_last) = self.find_parent(old_directory, old_path).await?;
        let (new, new_last) = self.find_parent(new_directory, new_path).await?;
        let (Last::Name { name: old_name, slash: old_slash }, Last::Name { name: new_name, slash: new_slash }) =
            (old_last, new_last)
        else {
            return Err(Errno::EBUSY.into());
        };
        if (old_slash || new_slash) && !self.look_up(&old, old_name).await?.0.kind.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        let (olddirfid, oldname) = (old.fid(), old.name(old_name));
        let (newdirfid, newname) = (new.fid(), new.name(new_name));
        let message = Tmessage::Trenameat { olddirfid, oldname, newdirfid, newname };
        match self.unless_lacking(&self.lacks_renameat, message).await {
            Some(result) => result,
            None => {
                let (_, fid) = self.look_up(&old, old_name).await?;
                self.order(Tmessage::Trename { fid: fid.number(), dfid: newdirfid, name: newname }).await
            }
        }
    }

    /// Removes what is not a directory.
    ///
    /// # Errors
    /// Those of `unlinkat(2)`.
    pub async fn unlink(&self, directory: NodeNumber, path: String) -> Result<Value, Error> {
        let mut walker = Walker::new(&self.session, self.node(directory)?, path)?;
        let last = walker.take_last();
        if let Last::Name { name, slash: false } = last {
            return self.remove(walker, name, false).await;
        }
        walker.run_to_parent().await?;
        let Last::Name { name, .. } = last else { return Err(Errno::EISDIR.into()) };
        let (qid, _) = self.look_up(&walker, name).await?;
        Err(if qid.kind.is_dir() { Errno::EISDIR } else { Errno::ENOTDIR }.into())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// Those of `unlinkat(2)` with `AT_REMOVEDIR`.
    pub async fn remove_directory(&self, directory: NodeNumber, path: String) -> Result<Value, Error> {
        let mut walker = Walker::new(&self.session, self.node(directory)?, path)?;
        let last = walker.take_last();
        if let Last::Name { name, .. } = last {
            return self.remove(walker, name, true).await;
        }
        walker.run_to_parent().await?;
        Err(if last == Last::Dot { Errno::EINVAL } else { Errno::ENOTEMPTY }.into())
    }

    /// Removes a name from the directory to which the walker leads.
    async fn remove(&self, mut walker: Walker<R>, name: Name, directory: bool) -> Result<Value, Error> {
        let flags = if directory { AT_REMOVEDIR } else { 0 };
        fn message<'w, R: Ring>(walker: &'w Walker<R>, dirfid: u32, name: Name, flags: u32) -> Tmessage<'w> {
            Tmessage::Tunlinkat { dirfid, name: walker.name(name), flags }
        }
        if !self.lacks_unlinkat.get() {
            let removed = walker.visit_directory(|walker, fid| message(walker, fid, name, flags), |_| Some(())).await;
            match removed {
                Ok(Visit::Done(())) => return Ok(Value::None),
                Ok(_) => {}
                Err(Error::Errno(errno)) if says_lacking(errno) => self.lacks_unlinkat.set(true),
                Err(error) => return Err(error),
            }
        }
        walker.run_to_parent().await?;
        let walker = &walker;
        let message = message(walker, walker.fid(), name, flags);
        if let Some(result) = self.unless_lacking(&self.lacks_unlinkat, message).await {
            return result;
        }
        let (qid, fid) = self.look_up(walker, name).await?;
        match (qid.kind.is_dir(), directory) {
            (true, false) => Err(Errno::EISDIR.into()),
            (false, true) => Err(Errno::ENOTDIR.into()),
            _ => {
                self.session.remove(fid).await?;
                Ok(Value::None)
            }
        }
    }
}
